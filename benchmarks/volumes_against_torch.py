"""nnU-Net's plain network in 3-D, unet_jax and PyTorch side by side, as in benchmarks.against_torch.

    pip install torch==2.13.0                    PyTorch is no dependency; with a GPU, the build for its CUDA
    python -m benchmarks.volumes_against_torch   the rows of the device at hand, a few minutes; --only=128 some of them

A step is cross-entropy, Dice and deep supervision, forward and backward, and nnU-Net's SGD. Against it on a CPU are
PyTorch's eager mode with its own order of axes and with the channels last; on a GPU, with autocast to bfloat16, eager
mode and torch.compile. The results are kept in benchmarks/results after each row, beside the rows of the same device
and versions; `python -m benchmarks.table` puts them into docs/performance.md.
"""

import dataclasses
import os
import time
from collections.abc import Callable

import jax
import numpy as np
import optax
import torch
from absl import app, flags
from flax import nnx
from jax.sharding import AxisType

from benchmarks import results, torch_nnunet, torch_unet
from benchmarks.against_torch import torch_tflops  # whose flags --seconds and --tiny serve here too
from unet_jax import models
from unet_jax.benchmark import device_peak, flops, memory, side_by_side
from unet_jax.losses import deep_supervision_loss
from unet_jax.models.fast.layouts import compiler_options
from unet_jax.models.functional import split_model
from unet_jax.runtime import cpu_devices, environment
from unet_jax.runtime.mesh import by_batch, replicated
from unet_jax.training import optim

ONLY = flags.DEFINE_string("only", "", "Rows whose shape has this in it; all by default.")
CLASSES = 3
RATE, CLIP = 1e-2, 12.0


@dataclasses.dataclass(frozen=True)
class Row:
    """One network on one kind of patch, in training and at inference."""

    device: str
    features: tuple[int, ...]
    size: tuple[int, ...]
    batch: int
    dtype: str

    @property
    def shape(self) -> str:
        """What the table calls the patch."""
        return "×".join(map(str, self.size))

    def title(self, kind: str) -> str:
        """What the table calls the kind of work."""
        work = "train step" if kind == "train" else "inference"
        ends = f"features {self.features[0]} to {self.features[-1]}"
        return f"{self.device} 3-D {work}, {ends}, {self.shape}, batch {self.batch}, {self.dtype}"


ROWS = (
    Row("cpu", (32, 64, 128, 256), (40, 56, 40), 2, "float32"),
    Row("gpu", (32, 64, 128, 256), (40, 56, 40), 7, "bfloat16"),
    Row("gpu", (32, 64, 128, 256, 320, 320), (128, 128, 128), 2, "bfloat16"),
)
# Name → (compiled, channels last).
CONTENDERS = {
    "cpu": {"torch eager": (False, False), "torch eager, channels last": (False, True)},
    "gpu": {"torch eager": (False, False), "torch compile": (True, False)},
}


@dataclasses.dataclass
class Contender:
    """What is timed of a library.

    Attributes:
        calls: kind of work → what does it so many times.
        loss: of the first step.
        first_seconds: of tracing and compiling the step and doing it once.
        peak_memory_gb: of the device in a step; None on a CPU.
    """

    calls: dict[str, Callable[[int], None]]
    loss: float
    first_seconds: float
    peak_memory_gb: float | None


def _ours(row: Row, image: np.ndarray, mask: np.ndarray) -> tuple[Contender, dict, dict[str, int]]:
    """unet_jax's side, its parameters before the first step, and the operations of each kind of work."""
    options = {"features": row.features, "rank": 3, "deep_supervision": True, "dtype": row.dtype}
    graphdef, params, _ = split_model(models.build("nnunet", image.shape[-1], CLASSES, nnx.Rngs(0), **options))
    copied = jax.tree.map(np.array, params)
    devices = jax.devices()[: cpu_devices.device_count(row.batch, jax.device_count())]
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    volume, classes = jax.device_put((image, mask.astype(np.int32)), by_batch(mesh))
    optimizer = optim.optimizer(
        "sgd", optax.constant_schedule(RATE), weight_decay=3e-5, clip_norm=CLIP, coupled_decay=True
    )

    def loss_of(params: dict, volume: jax.Array, classes: jax.Array) -> jax.Array:
        logits = nnx.merge(graphdef, params)(volume)
        return deep_supervision_loss(logits, jax.nn.one_hot(classes, CLASSES), {"ce": 1.0, "dice": 1.0})

    def train(state: tuple, volume: jax.Array, classes: jax.Array) -> tuple[tuple, jax.Array]:
        params, opt_state = state
        loss, gradient = jax.value_and_grad(loss_of)(params, volume, classes)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    def predict(params: dict, volume: jax.Array) -> jax.Array:
        return nnx.view(nnx.merge(graphdef, params), deterministic=True)(volume)

    step = jax.jit(train, donate_argnums=0, compiler_options=compiler_options(3))
    prediction = jax.jit(predict, compiler_options=compiler_options(3))
    state = jax.device_put((params, optimizer.init(params)), replicated(mesh))
    operations = {
        "train": flops.count(step, state, volume, classes),
        "predict": flops.count(prediction, state[0], volume),
    }
    began = time.perf_counter()
    compiled = step.lower(state, volume, classes).compile()
    state, loss = compiled(state, volume, classes)
    loss = float(loss)
    held, first_seconds = [state], time.perf_counter() - began

    def train_once() -> jax.Array:
        held[0], loss = compiled(held[0], volume, classes)
        return loss

    calls = {"train": _often(train_once), "predict": _often(lambda: prediction(held[0][0], volume))}
    return Contender(calls, loss, first_seconds, memory.planned(compiled)), copied, operations


def _torchs(row: Row, params: dict, image: np.ndarray, mask: np.ndarray, compiled: bool, last: bool) -> Contender:
    """PyTorch's side, from the same parameters."""
    torch._dynamo.reset()
    device = "cuda" if row.device == "gpu" else "cpu"
    form = torch.channels_last_3d if last else torch.contiguous_format
    model = torch_nnunet.network(params, image.shape[-1], CLASSES, row.features).to(device, memory_format=form)
    volume = torch.from_numpy(image).movedim(-1, 1).to(device).contiguous(memory_format=form)
    classes = torch.from_numpy(mask).to(device)
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.99, nesterov=True, weight_decay=3e-5, fused=True)
    network = torch.compile(model) if compiled else model
    autocast = torch.autocast(device, torch.bfloat16, enabled=row.dtype == "bfloat16")

    def train() -> torch.Tensor:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = torch_nnunet.loss_of(network(volume), classes)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return loss.detach()

    def predict() -> torch.Tensor:
        model.eval()
        with torch.inference_mode(), autocast:
            return network(volume)[0]

    began = time.perf_counter()
    loss = float(train())
    first_seconds = time.perf_counter() - began
    peak = torch_unet.peak_memory_gb(train, device)
    return Contender({"train": _often(train), "predict": _often(predict)}, loss, first_seconds, peak)


def _often(work: Callable) -> Callable[[int], None]:
    def often(times: int) -> None:
        for _ in range(times):
            done = work()
        if isinstance(done, torch.Tensor):
            torch_unet.wait(done.device.type)
        else:
            jax.block_until_ready(done)

    return often


def measure(row: Row, seconds: float) -> list[dict]:
    """Training and inference: samples, operations, ratios, the first steps and the memory."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((row.batch, *row.size, 1), np.float32)
    mask = rng.integers(0, CLASSES, (row.batch, *row.size))
    ours, params, operations = _ours(row, image, mask)
    sides = {"unet_jax": ours}
    tolerance = 2e-2 if row.dtype == "bfloat16" else 1e-4
    for name, (compiled, last) in CONTENDERS[row.device].items():
        sides[name] = _torchs(row, params, image, mask, compiled, last)
        if abs(sides[name].loss - ours.loss) > tolerance * abs(ours.loss):
            raise SystemExit(f"{name}'s loss is {sides[name].loss}, unet_jax's {ours.loss}: not the same.")
    found = []
    for kind in ("train", "predict"):
        samples = side_by_side.alternate({name: side.calls[kind] for name, side in sides.items()}, seconds)
        peaks = {name: side.peak_memory_gb for name, side in sides.items()}
        found.append(
            {
                "title": row.title(kind),
                "dtype": row.dtype,
                "gflop": operations[kind] / 1e9,
                "rounds": len(samples["unet_jax"]),
                "load": os.getloadavg()[0],
                "median_ms": {name: float(np.median(one)) * 1e3 for name, one in samples.items()},
                "against": {
                    name: side_by_side.compare(samples["unet_jax"], one)
                    for name, one in samples.items()
                    if name != "unet_jax"
                },
                "peak_memory_gb": peaks if kind == "train" and all(peaks.values()) else None,
                "first_step_seconds": {name: side.first_seconds for name, side in sides.items()}
                if kind == "train"
                else None,
            }
        )
        print(found[-1], flush=True)
    return found


def main(_) -> None:
    """Measures training and inference of every row, prints and keeps them."""
    tiny = flags.FLAGS.tiny
    threads = len(os.sched_getaffinity(0))
    torch_unet.configure(threads)
    cpu_devices.use_cores(max(row.batch for row in ROWS if row.device == "cpu"))
    device = "cpu" if jax.default_backend() == "cpu" else "gpu"
    rows = [row for row in ROWS if (tiny or row.device == device) and ONLY.value in row.shape]
    torch_device = "cuda" if device == "gpu" else "cpu"
    if tiny:
        rows = [dataclasses.replace(row, device=device, features=(4, 8), size=(8, 8, 8), batch=2) for row in rows]
    size = 256 if tiny else 1536 if device == "cpu" else 8192
    peak = {}
    for dtype in sorted({row.dtype for row in rows}):
        peak[f"jax {dtype}"] = device_peak.measured_tflops(dtype, 0.1 if tiny else 2.0)
        peak[f"torch {dtype}"] = torch_tflops(torch_device, getattr(torch, dtype), size)
    origin = {**environment.describe((*environment.PACKAGES, "torch")), "threads": threads, "peak_tflops": peak}
    for row in rows:
        found = measure(row, 0.5 if tiny else flags.FLAGS.seconds / 2)
        if not tiny:
            path = results.write_rows(results.name_for("volumes_against_torch", device), origin, found)
            print(f"written to {path}")


if __name__ == "__main__":
    app.run(main)

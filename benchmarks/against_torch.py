"""unet_jax and PyTorch side by side: the same network, batch, loss, optimiser and type, in turns in one process.

    pip install torch==2.13.0            PyTorch is no dependency; with a GPU, the build for its CUDA
    python -m benchmarks.against_torch   the rows of the device at hand, a few minutes

Both start from the same parameters, and their first losses (or predictions) must agree. The results are kept in
benchmarks/results, and `python -m benchmarks.table` puts them into docs/performance.md.
"""

import dataclasses
import os

# Before jax and torch start their threads, and jax takes its share of a GPU that torch needs too.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")

from collections.abc import Callable

import jax
import numpy as np
import optax
import torch
from absl import app, flags
from flax import nnx
from jax.sharding import AxisType

from benchmarks import results, torch_unet
from unet_jax import models
from unet_jax.benchmark import device_peak, flops, memory, side_by_side
from unet_jax.inference.network import make_probability_step
from unet_jax.models.functional import split_model
from unet_jax.run.config import default_config
from unet_jax.runtime import cpu_devices, environment
from unet_jax.runtime.mesh import by_batch, replicated
from unet_jax.training import optim
from unet_jax.training.step import init_state, make_train_step
from unet_jax.training.step_settings import StepSettings

SECONDS = flags.DEFINE_float("seconds", 20, "Of a row's rounds, all contenders together.")
TINY = flags.DEFINE_bool("tiny", False, "Every row at width 4, 32², batch 2 on any device, nothing kept: a check.")
CONTENDERS = flags.DEFINE_list("contenders", ["eager", "compile"], "PyTorch's: eager, compile.")


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison."""

    kind: str
    device: str
    width: int
    size: int
    batch: int
    dtype: str = "float32"

    @property
    def title(self) -> str:
        """What the table calls it."""
        work = "train step" if self.kind == "train" else "inference"
        return f"{self.device} {work}, width {self.width}, {self.size}², batch {self.batch}, {self.dtype}"


ROWS = (
    Row("train", "cpu", 64, 64, 8),
    Row("train", "cpu", 64, 256, 1),
    Row("train", "cpu", 16, 128, 8),
    Row("predict", "cpu", 64, 256, 1),
    Row("train", "gpu", 64, 256, 32, "bfloat16"),
    Row("predict", "gpu", 64, 256, 32, "bfloat16"),
)


def measure(row: Row, torch_device: str, contenders: list[str], seconds: float) -> dict:
    """The row's samples, operations and ratios."""
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (row.batch, row.size, row.size, 3), np.uint8),
        "mask": rng.integers(0, 2, (row.batch, row.size, row.size), np.uint8),
    }
    params, calls, first, count, planned = _ours(row, batch)
    firsts, peaks = {"unet_jax": first}, {"unet_jax": planned}
    make = torch_unet.make_train_step if row.kind == "train" else torch_unet.make_prediction
    for name in contenders:
        torch._dynamo.reset()
        model = torch_unet.network(params, row.width, torch_device)
        work = make(model, batch, torch_device, row.dtype, name == "compile")
        firsts[f"torch {name}"] = float(work().float().mean())
        calls[f"torch {name}"] = _torch_call(work, torch_device)
        peaks[f"torch {name}"] = torch_unet.peak_memory_gb(work, torch_device)
    tolerance = 2e-2 if row.dtype == "bfloat16" else 1e-4
    for name, value in firsts.items():
        if abs(value - first) > tolerance * abs(first):
            raise SystemExit(f"{row.title}: {name} gives {value}, unet_jax {first}: they do not compute the same.")
    samples = side_by_side.alternate(calls, seconds)
    return {
        "title": row.title,
        **dataclasses.asdict(row),
        "gflop": count / 1e9,
        "rounds": len(samples["unet_jax"]),
        "median_ms": {name: float(np.median(one)) * 1e3 for name, one in samples.items()},
        "against": {
            name: side_by_side.compare(samples["unet_jax"], one) for name, one in samples.items() if name != "unet_jax"
        },
        "peak_memory_gb": peaks if row.kind == "train" and all(peaks.values()) else None,
    }


def _ours(row: Row, batch: dict) -> tuple[dict, dict[str, Callable], float, int, float | None]:
    """Parameters as numpy arrays, the call to time, its first loss or mean prediction, its operations and memory."""
    model = models.build("tutorial", 3, 1, nnx.Rngs(0), width=row.width, dtype=row.dtype)
    graphdef, params, batch_stats = split_model(model)
    copied = jax.tree.map(np.array, params)
    # As many devices as the program takes for this batch.
    devices = jax.devices()[: cpu_devices.device_count(row.batch, jax.device_count())]
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    on_device = jax.device_put(batch, by_batch(mesh))
    params, batch_stats = jax.device_put((params, batch_stats), replicated(mesh))
    if row.kind == "predict":
        predict = make_probability_step(graphdef, image_size=row.size)
        arguments = (params, batch_stats, on_device["image"])

        def predict_often(times: int) -> None:
            for _ in range(times):
                found = predict(*arguments)
            found.block_until_ready()

        first = float(predict(*arguments).mean())
        return copied, {"unet_jax": predict_often}, first, flops.count(predict, *arguments), None

    optimizer = optim.optimizer("adam", optax.constant_schedule(1e-3), weight_decay=0, clip_norm=None)
    config = default_config()
    none = {key: 0 for key in ("flip_rows", "flip_columns", "transpose", "rot90")}
    settings = StepSettings(
        image_size=row.size,
        loss=config.loss.to_dict(),
        augment=config.augment.to_dict() | none | {"affine": {"probability": 0}},
        seed=0,
    )
    step = make_train_step(graphdef, optimizer, settings, optax.constant_schedule(1e-3))
    state = jax.device_put(init_state(params, batch_stats, optimizer), replicated(mesh))
    count = flops.count(step, state, on_device)
    # The device's own count would have in it what compiling took to try convolutions out.
    planned = memory.planned(step.lower(state, on_device).compile())
    state, logged = step(state, on_device)
    held = [state]

    def train_often(times: int) -> None:
        for _ in range(times):
            held[0], logged = step(held[0], on_device)
        jax.block_until_ready((held[0], logged))

    return copied, {"unet_jax": train_often}, float(logged["loss"]), count, planned


def _torch_call(work: Callable, device: str) -> Callable[[int], None]:
    def often(times: int) -> None:
        for _ in range(times):
            work()
        torch_unet.wait(device)

    return often


def torch_tflops(device: str, dtype: torch.dtype, size: int) -> float:
    """PyTorch's matrix product: on a CPU its library may be faster than XLA's."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def multiply(times: int) -> None:
        for _ in range(times):
            a @ b
        torch_unet.wait(device)

    samples = side_by_side.alternate({"product": multiply}, 2.0)["product"]
    return 2 * size**3 / float(np.median(samples)) / 1e12


def main(_) -> None:
    """Measures every row of the device at hand, prints them and keeps them."""
    threads = len(os.sched_getaffinity(0))
    torch_unet.configure(threads)
    cpu_devices.use_cores(max(row.batch for row in ROWS))
    device = "cpu" if jax.default_backend() == "cpu" else "gpu"
    torch_device = "cuda" if device == "gpu" else "cpu"
    if TINY.value:
        rows = [dataclasses.replace(row, width=4, size=32, batch=2) for row in ROWS]
    else:
        rows = [row for row in ROWS if row.device == device]
    size = 256 if TINY.value else 1536 if device == "cpu" else 8192
    peak = {
        f"{library} {dtype}": measured(dtype)
        for dtype in ("float32", "bfloat16")
        for library, measured in (
            ("jax", lambda dtype: device_peak.measured_tflops(dtype, 2.0)),
            ("torch", lambda dtype: torch_tflops(torch_device, getattr(torch, dtype), size)),
        )
    }
    found = {
        **environment.describe((*environment.PACKAGES, "torch")),
        "threads": threads,
        "peak_tflops": peak,
        "rows": [],
    }
    for row in rows:
        one = measure(row, torch_device, CONTENDERS.value, SECONDS.value)
        found["rows"].append(one)
        times = ", ".join(f"{name} {ms:.1f} ms" for name, ms in one["median_ms"].items())
        ratios = ", ".join(
            f"{name} {r['ratio']:.2f}× ({r['lower']:.2f} to {r['upper']:.2f})" for name, r in one["against"].items()
        )
        print(f"{row.title}: {times}; unet_jax against {ratios}", flush=True)
    if not TINY.value:
        print(f"written to {results.write(results.name_for('against_torch', device), found)}")


if __name__ == "__main__":
    app.run(main)

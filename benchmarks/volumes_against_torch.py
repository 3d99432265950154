"""nnU-Net's plain network in 3-D, unet_jax and PyTorch side by side on a CPU, as in benchmarks.against_torch.

    pip install torch==2.13.0                    PyTorch is no dependency
    python -m benchmarks.volumes_against_torch   a few minutes

Training is forward and backward: cross-entropy, Dice and deep supervision. PyTorch runs eagerly, with its own order of
axes and with the channels last. The results are kept in benchmarks/results; `python -m benchmarks.table` puts them into
docs/performance.md.
"""

import os
from collections.abc import Callable

import jax
import numpy as np
import torch
from absl import app, flags
from flax import nnx
from jax.sharding import AxisType

from benchmarks import results, torch_nnunet, torch_unet
from benchmarks.against_torch import torch_tflops  # whose flags --seconds and --tiny serve here too
from unet_jax import models
from unet_jax.benchmark import device_peak, flops, side_by_side
from unet_jax.losses import deep_supervision_loss
from unet_jax.models.functional import split_model
from unet_jax.runtime import cpu_devices, environment
from unet_jax.runtime.mesh import by_batch, replicated

CLASSES = 3
FORMATS = {"torch eager": torch.contiguous_format, "torch eager, channels last": torch.channels_last_3d}


def contenders(
    features: tuple[int, ...], size: tuple[int, ...], batch: int
) -> tuple[dict[str, dict[str, Callable[[int], None]]], dict[str, int]]:
    """Kind of work → contender → what does it so many times; and the operations of each kind."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((batch, *size, 1), np.float32)
    mask = rng.integers(0, CLASSES, (batch, *size))
    options = {"features": features, "rank": 3, "deep_supervision": True}
    graphdef, params, _ = split_model(models.build("nnunet", 1, CLASSES, nnx.Rngs(0), **options))
    copied = jax.tree.map(np.array, params)
    devices = jax.devices()[: cpu_devices.device_count(batch, jax.device_count())]
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    params = jax.device_put(params, replicated(mesh))
    one_hot = np.eye(CLASSES, dtype=np.float32)[mask]
    on_device = jax.device_put({"image": image, "mask": one_hot}, by_batch(mesh))

    def loss_of(params: dict, batch: dict) -> jax.Array:
        logits = nnx.merge(graphdef, params)(batch["image"])
        return deep_supervision_loss(logits, batch["mask"], {"ce": 1.0, "dice": 1.0})

    def predict(params: dict, batch: dict) -> jax.Array:
        return nnx.view(nnx.merge(graphdef, params), deterministic=True)(batch["image"])

    ours = {"train": jax.jit(jax.value_and_grad(loss_of)), "predict": jax.jit(predict)}
    operations = {kind: flops.count(work, params, on_device) for kind, work in ours.items()}
    first = float(ours["train"](params, on_device)[0])
    calls = {kind: {"unet_jax": _often(lambda work=work: work(params, on_device))} for kind, work in ours.items()}
    for name, form in FORMATS.items():
        model = torch_nnunet.network(copied, 1, CLASSES, features).to(memory_format=form)
        volume = torch.from_numpy(image).movedim(-1, 1).contiguous(memory_format=form)
        step = _torch_step(model, volume, torch.from_numpy(mask))
        if abs(float(step()) - first) > 1e-4 * abs(first):
            raise SystemExit(f"{name}'s loss is {float(step())}, unet_jax's {first}: they do not compute the same.")
        calls["train"][name] = _often(step)
        calls["predict"][name] = _often(_torch_prediction(model, volume))
    return calls, operations


def _torch_step(model: torch.nn.Module, volume: torch.Tensor, mask: torch.Tensor) -> Callable[[], torch.Tensor]:
    def step() -> torch.Tensor:
        model.train()
        model.zero_grad(set_to_none=True)
        loss = torch_nnunet.loss_of(model(volume), mask)
        loss.backward()
        return loss.detach()

    return step


def _torch_prediction(model: torch.nn.Module, volume: torch.Tensor) -> Callable[[], torch.Tensor]:
    def predict() -> torch.Tensor:
        model.eval()
        with torch.inference_mode():
            return model(volume)[0]

    return predict


def _often(work: Callable) -> Callable[[int], None]:
    def often(times: int) -> None:
        for _ in range(times):
            done = work()
        jax.block_until_ready(done)

    return often


def main(_) -> None:
    """Measures training and inference, prints and keeps them."""
    features, size, batch = ((4, 8), (8, 8, 8), 2) if flags.FLAGS.tiny else ((32, 64, 128, 256), (40, 56, 40), 2)
    threads = len(os.sched_getaffinity(0))
    torch_unet.configure(threads)
    cpu_devices.use_cores(batch)
    peak = {
        "jax float32": device_peak.measured_tflops("float32", 2.0),
        "torch float32": torch_tflops("cpu", torch.float32, 256 if flags.FLAGS.tiny else 1536),
    }
    calls, operations = contenders(features, size, batch)
    rows = []
    for kind, each in calls.items():
        samples = side_by_side.alternate(each, 1.0 if flags.FLAGS.tiny else flags.FLAGS.seconds)
        shape = "×".join(map(str, size))
        rows.append(
            {
                "title": f"cpu 3-D {'forward and backward' if kind == 'train' else 'inference'}, features "
                f"{features[0]} to {features[-1]}, {shape}, batch {batch}, float32",
                "dtype": "float32",
                "gflop": operations[kind] / 1e9,
                "rounds": len(samples["unet_jax"]),
                "load": os.getloadavg()[0],
                "median_ms": {name: float(np.median(one)) * 1e3 for name, one in samples.items()},
                "against": {
                    name: side_by_side.compare(samples["unet_jax"], one)
                    for name, one in samples.items()
                    if name != "unet_jax"
                },
                "peak_memory_gb": None,
            }
        )
        print(rows[-1], flush=True)
    found = {**environment.describe((*environment.PACKAGES, "torch")), "threads": threads, "peak_tflops": peak}
    if not flags.FLAGS.tiny:
        print(f"written to {results.write('volumes_against_torch_cpu', {**found, 'rows': rows})}")


if __name__ == "__main__":
    app.run(main)

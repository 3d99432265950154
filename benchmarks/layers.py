"""Layer by layer and pass by pass, unet_jax's and PyTorch's rate in turns: where a network's time goes.

    pip install torch==2.13.0     PyTorch is no dependency
    python -m benchmarks.layers   a table for one core of this CPU; [--only=conv 3-D] [--seconds=1]

PyTorch's tensors have the channels last. A gradient's time does not include the forward pass, except that unet_jax
recomputes there what it did not keep: an activation's sign, or an instance's mean.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl import app, flags
from flax import nnx
from torch.nn import functional

from unet_jax.benchmark import flops, side_by_side
from unet_jax.models import layers
from unet_jax.runtime import environment

SECONDS = flags.DEFINE_float("seconds", 1, "Of each pass's rounds, both libraries together; at least seven rounds.")
ONLY = flags.DEFINE_string("only", "", "The rows whose name contains this.")

PASSES = ("forward", "input gradient", "kernel gradient")
NETS_2D = ((16, 128, 8), (64, 64, 8), (256, 16, 8))
NETS_3D = ((32, (40, 56, 40)), (64, (20, 28, 20)), (128, (10, 14, 10)), (256, (5, 7, 5)))


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer in both libraries, and its input's shape, channels last."""

    name: str
    shape: tuple[int, ...]
    ours: Callable
    torchs: Callable


def rows() -> Iterator[Row]:
    """The layers of the tutorial's U-Net in 2-D and of nnU-Net's plain network in 3-D."""
    options = {rank: layers.LayerOptions(rank, jnp.float32, nnx.Rngs(0)) for rank in (2, 3)}

    def conv(c: int, d: int, shape: tuple[int, ...], kernel: int = 3, stride: int = 1) -> Row:
        rank = len(shape) - 1
        torchs = (torch.nn.Conv2d, torch.nn.Conv3d)[rank - 2](c, d, kernel, stride, kernel // 2, bias=False)
        ours = layers.conv(c, d, options[rank], kernel=kernel, stride=stride, use_bias=False)
        return Row(f"conv {rank}-D, {kernel}, stride {stride}, {c} → {d}", (*shape, c), ours, torchs)

    for width, side, batch in NETS_2D:
        yield conv(width, width, (batch, side, side))
    yield conv(1, 32, (2, *NETS_3D[0][1]))
    for width, size in NETS_3D:
        yield conv(width, width, (2, *size))
        if width < 256:
            yield conv(2 * width, width, (2, *size))
            yield conv(width, 2 * width, (2, *size), stride=2)
            small = tuple(n // 2 for n in size)
            up = layers.conv_transposed(2 * width, width, options[3], stride=2)
            torchs = torch.nn.ConvTranspose3d(2 * width, width, 2, 2)
            yield Row(f"transposed 3-D, {2 * width} → {width}", (2, *small, 2 * width), up, torchs)
    yield conv(32, 3, (2, *NETS_3D[0][1]), kernel=1)
    for width, size in NETS_3D[:2]:
        norm = layers.normalisation("instance", width, options[3])
        torchs = torch.nn.Sequential(torch.nn.InstanceNorm3d(width, affine=True), torch.nn.LeakyReLU(0.01))
        ours = _Called(norm, lambda norm, x: norm(x, slope=layers.LEAKY_SLOPE))
        yield Row(f"instance norm and leaky ReLU 3-D, {width}", (2, *size, width), ours, torchs)
    width, side, batch = NETS_2D[1]
    shape = (batch, side, side, width)
    yield Row("max pooling 2-D", shape, _Called(None, lambda _, x: layers.max_pool(x)), torch.nn.MaxPool2d(2))
    yield Row("ReLU 2-D", shape, _Called(None, lambda _, x: layers.relu(x)), functional.relu)
    doubled = _Called(None, lambda _, x: layers.upsample_linear(layers.upsample_linear(x, 1), 2))
    torchs = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    yield Row("bilinear upsampling 2-D", shape, doubled, torchs)


@dataclasses.dataclass(frozen=True)
class _Called:
    """A layer, or none, and how it is called."""

    layer: nnx.Module | None
    call: Callable


def measure(row: Row, which: str, seconds: float) -> tuple[dict[str, float], int] | None:
    """Median seconds of both libraries and the operations, the same in each pass; None where no kernel is."""
    called = row.ours if isinstance(row.ours, _Called) else _Called(row.ours, lambda layer, x: layer(x))
    graphdef, params = nnx.split(called.layer) if called.layer is not None else (None, {})
    if which == "kernel gradient" and not jax.tree.leaves(params):
        return None
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal(row.shape), jnp.float32)

    def forward(params: dict, x: jax.Array) -> jax.Array:
        return called.call(nnx.merge(graphdef, params) if graphdef is not None else None, x)

    gradient = jnp.asarray(rng.standard_normal(jax.eval_shape(forward, params, x).shape), jnp.float32)
    ours = jax.jit(
        {
            "forward": lambda params, x, g: forward(params, x),
            "input gradient": lambda params, x, g: jax.vjp(lambda x: forward(params, x), x)[1](g),
            "kernel gradient": lambda params, x, g: jax.vjp(lambda params: forward(params, x), params)[1](g),
        }[which]
    )
    calls = {
        "unet_jax": _repeated(lambda: jax.block_until_ready(ours(params, x, gradient))),
        "torch": _repeated(_torch_pass(row.torchs, which, np.asarray(x), np.asarray(gradient))),
    }
    samples = side_by_side.alternate(calls, seconds)
    return {name: float(np.median(one)) for name, one in samples.items()}, flops.count(forward, params, x)


def _torch_pass(layer: Callable, which: str, x: np.ndarray, gradient: np.ndarray) -> Callable[[], object]:
    form = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    x, gradient = (torch.from_numpy(one.copy()).movedim(-1, 1).contiguous(memory_format=form) for one in (x, gradient))
    if isinstance(layer, torch.nn.Module):
        layer = layer.to(memory_format=form)
    if which == "forward":
        return lambda: layer(x)
    x.requires_grad_(which == "input gradient")
    of = [x] if which == "input gradient" else list(layer.parameters())
    y = layer(x)
    return lambda: torch.autograd.grad(y, of, gradient, retain_graph=True)


def _repeated(work: Callable[[], object]) -> Callable[[int], None]:
    def often(times: int) -> None:
        for _ in range(times):
            work()

    return often


def main(_) -> None:
    """Prints the table as Markdown."""
    # Both on one core: of XLA's operations some take all there are, and others never more than one.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    print(f"{environment.describe()['machine']}; milliseconds, and in brackets GFLOP/s.\n")
    print("| layer | pass | unet_jax | torch | times as fast |\n|---|---|---|---|---|")
    for row in rows():
        for which in PASSES:
            found = measure(row, which, SECONDS.value) if ONLY.value in row.name else None
            if found:
                times, operations = found
                rate = {name: f" ({operations / one / 1e9:.0f})" if operations else "" for name, one in times.items()}
                cells = [f"{times[name] * 1e3:.2f}{rate[name]}" for name in ("unet_jax", "torch")]
                ratio = times["torch"] / times["unet_jax"]
                print(f"| {row.name} | {which} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    app.run(main)

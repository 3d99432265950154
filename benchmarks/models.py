"""The table of docs/models.md: parameters, operations and images a second of every network, on this machine's device.

python -m benchmarks.models [--size=256] [--repeats=5]
"""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from absl import app, flags
from flax import nnx

from unet_jax import models
from unet_jax.inference.network import make_probability_step
from unet_jax.models.functional import split_model

SIZE = flags.DEFINE_integer("size", 256, "Pixels a side.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Timed calls of each network; the median counts.")
# 3-D networks are measured on a slab of this many slices, an image being a slice of it.
SLAB = 16

# label, name, options
NETWORKS = [(name, name, {}) for name in models.PRESETS] + [
    ("unet3d (configs/unet3d.py)", "tutorial", {"width": 16, "norm": "instance", "up": "transposed", "rank": 3}),
    *(
        (
            f"{name}, 3-D",
            name,
            {
                "features": (32, 64, 128, 256, 320, 320),
                "strides": (1, 2, 2, 2, 2, (1, 2, 2)),
                "rank": 3,
                **({"blocks": (1, 3, 4, 6, 6, 6)} if name == "resenc" else {}),
            },
        )
        for name in ("nnunet", "resenc")
    ),
]


def measure(name: str, **options) -> tuple[int, float, float]:
    """(parameters, GFLOP an image, images a second) of the network's prediction, one image or slab at a time."""
    rank = options.get("rank", 2)
    model = models.build(name, 3, 1, nnx.Rngs(0), **options)
    graphdef, params, batch_stats = split_model(model)
    probability = make_probability_step(graphdef, image_size=SIZE.value)
    shape = (1, *([SLAB] if rank == 3 else []), SIZE.value, SIZE.value, 3)
    image = jax.random.randint(jax.random.key(0), shape, 0, 256).astype(jnp.uint8)
    compiled = probability.lower(params, batch_stats, image).compile()
    images = SLAB if rank == 3 else 1
    flop = compiled.cost_analysis()["flops"]
    seconds = _median_seconds(lambda: compiled(params, batch_stats, image))
    return sum(leaf.size for leaf in jax.tree.leaves(params)), flop / images / 1e9, images / seconds


def _median_seconds(call: Callable[[], jax.Array]) -> float:
    jax.block_until_ready(call())
    seconds = []
    for _ in range(REPEATS.value):
        began = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main(_) -> None:
    """Prints the table as Markdown."""
    device = jax.devices()[0]
    print(f"| network | parameters | GFLOP an image of {SIZE.value}² | images/s, {device.device_kind} |")
    print("|---|---|---|---|")
    for label, name, options in NETWORKS:
        parameters, gflop, speed = measure(name, **options)
        print(f"| {label} | {parameters:,} | {gflop:.1f} | {speed:.2f} |", flush=True)


if __name__ == "__main__":
    app.run(main)

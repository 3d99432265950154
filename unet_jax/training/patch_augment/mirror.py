"""Mirroring along the allowed axes.

Source: batchgeneratorsv2 0.3.6, transforms/spatial/mirroring.py.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float32, Int, Key

from unet_jax.training.patch_augment.draws import named, sometimes


def random_mirror(
    key: Key[Array, ""],
    image: Float32[Array, "*patch c"],
    masks: Int[Array, "*patch k"],
    axes: Sequence[int],
    probability: float,
) -> tuple[Float32[Array, "*patch c"], Int[Array, "*patch k"]]:
    """Mirrors image and masks along each of the axes with this probability."""
    both = (image, masks)
    for axis in axes:

        def mirrored(both, axis=axis):
            return tuple(jnp.flip(volume, axis) for volume in both)

        both = sometimes(named(key, f"axis {axis}"), probability, mirrored, both)
    return both

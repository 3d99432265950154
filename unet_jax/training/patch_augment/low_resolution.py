"""Simulated low resolution: voxels are left out, and interpolated from those that are left.

Source: batchgeneratorsv2 0.3.6, transforms/spatial/low_resolution.py, with the arguments of nnunetv2 2.8.1.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32, Key

from unet_jax.training.patch_augment.draws import happens, named, sometimes, uniform
from unet_jax.training.patch_augment.settings import AugmentSettings


def random_low_resolution(
    key: Key[Array, ""], image: Float32[Array, "*patch c"], settings: AugmentSettings
) -> Float32[Array, "*patch c"]:
    """Lowers the resolution of some of the channels, each by a drawn share of its voxels an axis."""
    chance, channels = settings.low_resolution, image.shape[-1]
    is_chosen = happens(named(key, "channels"), chance.each, (channels,))
    shares = uniform(named(key, "shares"), chance.range, (channels,))
    axes = range(1 if settings.dummy_2d else 0, image.ndim - 1)

    def lowered(image):
        return jnp.where(is_chosen, lower(image, shares, axes), image)

    return sometimes(key, chance.probability, lowered, image)


def lower(
    image: Float32[Array, "*patch c"], shares: Float32[Array, " c"], axes: Sequence[int]
) -> Float32[Array, "*patch c"]:
    """Keeps the nearest voxels and interpolates linearly between them.

    Args:
        image: channels are treated one by one.
        shares: of the voxels an axis, how many each channel keeps, in (0, 1].
        axes: along which; along the others the resolution stays.
    """

    def of_channel(channel: Float32[Array, "*patch"], share: Float32[Array, ""]) -> Float32[Array, "*patch"]:
        for axis in axes:
            below, above, fraction = _sources(channel.shape[axis], share)
            fraction = fraction.reshape([-1 if a == axis else 1 for a in range(channel.ndim)])
            low, high = (jnp.take(channel, voxels, axis, mode="clip") for voxels in (below, above))
            channel = low * (1 - fraction) + high * fraction
        return channel

    return jax.vmap(of_channel, in_axes=(-1, 0), out_axes=-1)(image, shares)


def _sources(
    size: int, share: Float32[Array, ""]
) -> tuple[Int32[Array, " size"], Int32[Array, " size"], Float32[Array, " size"]]:
    """For each voxel of an axis the two that it comes from, and the second one's weight."""
    kept = jnp.round(size * share)
    place = jnp.maximum((jnp.arange(size, dtype=jnp.float32) + 0.5) * (kept / size) - 0.5, 0)
    first = jnp.minimum(jnp.floor(place), kept - 1)
    second = jnp.minimum(first + 1, kept - 1)
    # The voxel that each kept one is: the nearest to its middle.
    below, above = (jnp.floor((voxel + 0.5) * (size / kept)).astype(jnp.int32) for voxel in (first, second))
    return below, above, place - first

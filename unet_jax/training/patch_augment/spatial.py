"""Rotation and scaling about a patch's centre, or a plain crop where neither was drawn.

Source: batchgeneratorsv2 0.3.6, transforms/spatial/spatial.py, with the arguments of nnunetv2 2.8.1.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int, Key, Shaped

from unet_jax.training.patch_augment.draws import happens, named, uniform
from unet_jax.training.patch_augment.settings import AugmentSettings

# What lies beyond the edges of what was cut.
IMAGE_FILL, MASK_FILL = 0, -1
# Labels are compared by their summed weights times this, in half precision. It decides which of them count as equal.
SCORE = 1000

Scalar = Float32[Array, ""]
Coordinates = list[Float32[Array, "*patch"]]


def random_spatial(
    key: Key[Array, ""],
    image: Float32[Array, "*cut c"],
    masks: Int[Array, "*cut k"],
    settings: AugmentSettings,
) -> tuple[Float32[Array, "*patch c"], Int[Array, "*patch k"]]:
    """Rotates and scales with the drawn values, or crops; image and masks alike.

    A flat patch is rotated and scaled within its slices, all of them by the same draw.
    """
    if settings.dummy_2d:
        image_2d, masks_2d = _random_spatial(key, _fold(image), _fold(masks), settings.patch[1:], settings)
        return _unfold(image_2d, image.shape[0]), _unfold(masks_2d, image.shape[0])
    return _random_spatial(key, image, masks, settings.patch, settings)


def _random_spatial(key: Key[Array, ""], image: Array, masks: Array, patch: Sequence[int], settings: AugmentSettings):
    rotates = happens(named(key, "rotates"), settings.rotation.probability)
    scales = happens(named(key, "scales"), settings.scaling.probability)

    def resampled(image, masks):
        count = 1 if len(patch) == 2 else 3
        drawn = uniform(named(key, "angles"), settings.rotation.range, (count,))
        angles = jnp.where(rotates, drawn, 0.0)
        scale = jnp.where(scales, uniform(named(key, "scale"), settings.scaling.range), 1.0)
        return resample(image, masks, coordinates(image.shape[:-1], patch, list(angles), scale))

    def cropped(image, masks):
        return crop(image, patch), crop(masks, patch)

    if not (settings.rotation.probability or settings.scaling.probability):
        return cropped(image, masks)
    return jax.lax.cond(rotates | scales, resampled, cropped, image, masks)


def _fold(volume: Shaped[Array, "d h w c"]) -> Shaped[Array, "h w d*c"]:
    """Slices become channels."""
    return jnp.moveaxis(volume, 0, 2).reshape(*volume.shape[1:3], -1)


def _unfold(plane: Shaped[Array, "h w channels"], depth: int) -> Shaped[Array, "d h w c"]:
    return jnp.moveaxis(plane.reshape(*plane.shape[:2], depth, -1), 2, 0)


def crop(volume: Shaped[Array, "*cut c"], patch: Sequence[int]) -> Shaped[Array, "*patch c"]:
    """The middle of what was cut; of an odd rest, the greater part is left out before it."""
    begins = [n // 2 - size // 2 for n, size in zip(volume.shape, patch, strict=False)]
    return volume[tuple(slice(begin, begin + size) for begin, size in zip(begins, patch, strict=True))]


def coordinates(cut: Sequence[int], patch: Sequence[int], angles: Sequence[Scalar], scale: Scalar) -> Coordinates:
    """Where each voxel of the patch is sampled, in voxels of what was cut, an array an axis.

    Written out, for a matrix product runs at the device's default precision, and coordinates would be off by voxels.

    Args:
        cut: voxels an axis that were cut.
        patch: voxels an axis of the result.
        angles: in radians, about each axis of three, the first one's rotation applied first; of two axes, the one of
            the plane.
        scale: of the coordinates, so that objects shrink by it.
    """
    axes = len(patch)
    centred = [
        (jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2).reshape([-1 if a == axis else 1 for a in range(axes)])
        for axis, size in enumerate(patch)
    ]
    return [
        sum(scale * entry * places for entry, places in zip(row, centred, strict=True)) + (n - 1) / 2
        for row, n in zip(_rotation(angles), cut, strict=True)
    ]


def _rotation(angles: Sequence[Scalar]) -> list[list[Scalar]]:
    """Rows of the rotation matrix: for three axes, R₂ R₁ R₀ with Rₐ about axis a."""
    cosines, sines = [jnp.cos(angle) for angle in angles], [jnp.sin(angle) for angle in angles]
    if len(angles) == 1:
        [c], [s] = cosines, sines
        return [[c, -s], [s, c]]
    c0, c1, c2 = cosines
    s0, s1, s2 = sines
    return [
        [c2 * c1, c2 * s1 * s0 - s2 * c0, c2 * s1 * c0 + s2 * s0],
        [s2 * c1, s2 * s1 * s0 + c2 * c0, s2 * s1 * c0 - c2 * s0],
        [-s1, c1 * s0, c1 * c0],
    ]


def resample(
    image: Float32[Array, "*cut c"], masks: Int[Array, "*cut k"], places: Coordinates
) -> tuple[Float32[Array, "*patch c"], Int[Array, "*patch k"]]:
    """Samples an image linearly, 0 outside of it, and masks by the label of the greatest weight, -1 outside.

    A label's weight is the sum of those of the corners that have it. Among labels of equal weight it is the nearest
    voxel's, or, if that is not among them, the lowest.

    Args:
        image: to sample.
        masks: to sample.
        places: voxels, an array an axis; any real numbers.
    """
    channels = image.shape[-1]
    both = jnp.concatenate([_frame(image, IMAGE_FILL), _frame(masks.astype(jnp.float32), MASK_FILL)], axis=-1)
    lows = [jnp.floor(place) for place in places]
    fractions = [(place - low)[..., None] for place, low in zip(places, lows, strict=True)]
    # Rounds a half to the even neighbour, as the source does.
    uppers = [(jnp.round(place) > low)[..., None] for place, low in zip(places, lows, strict=True)]
    corners, weights = [], []
    for corner in itertools.product((0, 1), repeat=len(places)):
        corners.append(_gather(both, [low.astype(jnp.int32) + bit for low, bit in zip(lows, corner, strict=True)]))
        weight = 1.0
        for bit, fraction in zip(corner, fractions, strict=True):
            weight *= fraction if bit else 1 - fraction
        weights.append(weight)
    sampled = sum(corner[..., :channels] * weight for corner, weight in zip(corners, weights, strict=True))
    label = _heaviest([corner[..., channels:] for corner in corners], weights, uppers)
    return sampled, label.astype(masks.dtype)


def _frame(volume: Shaped[Array, "*cut c"], fill: int) -> Array:
    """With one voxel of `fill` around it, which stands for all that lies outside."""
    return jnp.pad(volume, [(1, 1)] * (volume.ndim - 1) + [(0, 0)], constant_values=fill)


def _gather(framed: Float32[Array, "*framed c"], indices: list[Int[Array, "*patch"]]) -> Float32[Array, "*patch c"]:
    """Rows of a framed volume at the voxels of the volume itself."""
    shape = framed.shape[:-1]
    flat = jnp.zeros((), jnp.int32)
    for index, n in zip(indices, shape, strict=True):
        flat = flat * n + jnp.clip(index + 1, 0, n - 1)
    return framed.reshape(-1, framed.shape[-1]).at[flat].get(mode="promise_in_bounds")


def _heaviest(
    labels: list[Float32[Array, "*patch k"]],
    weights: list[Float32[Array, "*patch 1"]],
    uppers: list[Bool[Array, "*patch 1"]],
) -> Float32[Array, "*patch k"]:
    """The label of the greatest weight among the corners; `uppers` says on which side of each axis the nearest is."""
    scores = [
        jax.lax.reduce_precision(
            sum(jnp.where(other == label, weight * SCORE, 0.0) for other, weight in zip(labels, weights, strict=True)),
            exponent_bits=5,
            mantissa_bits=10,
        )
        for label in labels
    ]
    best = jnp.stack(scores).max(0)
    lowest = jnp.stack(
        [jnp.where(score == best, label, jnp.inf) for score, label in zip(scores, labels, strict=True)]
    ).min(0)
    nearest_label, nearest_score = _choose(labels, uppers), _choose(scores, uppers)
    return jnp.where(nearest_score == best, nearest_label, lowest)


def _choose(corners: list[Array], uppers: list[Bool[Array, "*patch 1"]]) -> Array:
    """One of the corners, which stand in the order of `itertools.product`."""
    for upper in reversed(uppers):
        corners = [jnp.where(upper, high, low) for low, high in zip(corners[::2], corners[1::2], strict=True)]
    return corners[0]

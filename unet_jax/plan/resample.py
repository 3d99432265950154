"""Changes a case's spacing as nnU-Net does: images by cubic splines, masks by shares, thick slices one by one.

The rules are those of nnunetv2 2.8.1, preprocessing/resampling/default_resampling.py.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Float64, Integer, Num

from unet_jax.errors import InputError
from unet_jax.plan import resize, resize_mask

# Slices this many times as thick as a pixel is wide, or more, are resized one by one.
ANISOTROPY = 3

Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How one kind of array is resampled: an entry of a plan.

    Attributes:
        order: of the spline: 0 nearest, 1 linear, 3 cubic.
        order_z: across thick slices.
        separate_z: whether to resize slices one by one; None decides by the spacing.
        enabled: False leaves every array as it is.
    """

    order: int
    order_z: int = 0
    separate_z: bool | None = None
    enabled: bool = True


IMAGES = Resampling(order=3)
MASKS = Resampling(order=1)
LOGITS = Resampling(order=1)


def new_shape(shape: Shape, spacing: Spacing, target: Spacing) -> Shape:
    """How many voxels of the target spacing fill the same box, rounded half to even."""
    return tuple(round(old / new * n) for n, old, new in zip(shape, spacing, target, strict=True))


def thick_axis(spacing: Spacing, target: Spacing, separate: bool | None = None) -> int | None:
    """The axis across which slices are resized one by one, or None where all axes are alike.

    It is the axis of the largest spacing, of the present or else the target one, if that is more than ANISOTROPY times
    the smallest. Two axes of the same largest spacing are not thick slices.

    Args:
        spacing: the present one, in mm.
        target: the one wanted.
        separate: True looks for such an axis in the present spacing, however large; False never does.
    """
    if separate is None:
        thick = [s for s in (spacing, target) if max(s) / min(s) > ANISOTROPY]
    else:
        thick = [spacing] if separate else []
    if not thick:
        return None
    largest = np.flatnonzero(np.max(thick[0]) / np.asarray(thick[0]) == 1)
    return int(largest[0]) if len(largest) == 1 else None


def matrices(
    old: Shape, shape: Shape, spacing: Spacing, target: Spacing, how: Resampling = LOGITS
) -> list[Float64[np.ndarray, "_ _"]]:
    """For each axis the matrix that resamples it; `resample_image` is their product with the image, and its clipping.

    Nearest and linear interpolation leave the range of no image, so that nothing is clipped.

    Args:
        old: the image's shape.
        shape: of the result.
        spacing: the image's, in mm.
        target: the result's.
        how: the plan's entry.
    """
    if not _changes(old, shape, how):
        return [np.eye(n) for n in old]
    thick = thick_axis(spacing, target, how.separate_z)
    orders = [how.order_z if axis == thick else how.order for axis in range(3)]
    return [resize.matrix(n, m, order) for n, m, order in zip(old, shape, orders, strict=True)]


def resample_image(
    image: Num[np.ndarray, "d h w c"], shape: Shape, spacing: Spacing, target: Spacing, how: Resampling = IMAGES
) -> Float32[np.ndarray, "D H W c"]:
    """The image with another number of voxels in the same box.

    Args:
        image: of any range, kept within the range that each channel (or, of thick slices, each slice) had.
        shape: of the result; see `new_shape`.
        spacing: the image's, in mm.
        target: the result's.
        how: the plan's entry.
    """
    if not _changes(image.shape[:3], shape, how):
        return image.astype(np.float32, copy=False)
    result = np.empty((*shape, image.shape[-1]), np.float32)
    for channel in range(image.shape[-1]):
        for place, slab in _slabs(image[..., channel], shape, thick_axis(spacing, target, how.separate_z), how):
            result[(*place, channel)] = slab
    return result


def resample_slabs(
    image: Num[np.ndarray, "d h w c"], shape: Shape, spacing: Spacing, target: Spacing, how: Resampling = LOGITS
) -> Iterator[tuple[tuple[slice, slice, slice], Float32[np.ndarray, "k H W c"]]]:
    """What `resample_image` returns in parts, so that all channels of a large volume are never held at once.

    Yields:
        Which voxels, and their values.
    """
    if not _changes(image.shape[:3], shape, how):
        for start in range(0, shape[0], resize.ROWS):
            place = slice(start, min(start + resize.ROWS, shape[0])), slice(None), slice(None)
            yield place, image[place].astype(np.float32, copy=False)
        return
    axis = thick_axis(spacing, target, how.separate_z)
    channels = [_slabs(image[..., channel], shape, axis, how) for channel in range(image.shape[-1])]
    for parts in zip(*channels, strict=True):
        slab = np.empty((*parts[0][1].shape, len(parts)), np.float32)
        for channel, (_, values) in enumerate(parts):
            slab[..., channel] = values
        yield parts[0][0], slab


def resample_mask(
    mask: Integer[np.ndarray, "d h w"], shape: Shape, spacing: Spacing, target: Spacing, how: Resampling = MASKS
) -> Integer[np.ndarray, "D H W"]:
    """The mask with another number of voxels in the same box, of the same type.

    Args:
        mask: labels, -1 among them.
        shape: the type of `resample_image`, as `spacing`, `target` and `how`.
        spacing: the mask's, in mm.
        target: the result's.
        how: the plan's entry.

    Raises:
        InputError: `how` asks for an order above 1.
    """
    if not _changes(mask.shape, shape, how):
        return mask
    if max(how.order, how.order_z) > 1:
        raise InputError(
            f"resampling_fn_seg_kwargs asks for order {how.order}, order_z {how.order_z}; masks are resampled with "
            "order 0 (nearest) or 1 (linear): set them to that."
        )
    axis = thick_axis(spacing, target, how.separate_z)
    if axis is None:
        return (resize_mask.resize_linear if how.order else resize_mask.resize_nearest)(mask, shape)
    thick = resize_mask.resize_slices(np.moveaxis(mask, axis, 0), _first(shape, axis), how.order, how.order_z)
    return np.ascontiguousarray(np.moveaxis(thick, 0, axis))


def _changes(old: Shape, shape: Shape, how: Resampling) -> bool:
    return how.enabled and tuple(old) != tuple(shape)


def _slabs(
    volume: Num[np.ndarray, "d h w"], shape: Shape, axis: int | None, how: Resampling
) -> Iterator[tuple[tuple[slice, slice, slice], Float64[np.ndarray, "k H W"]]]:
    whole = slice(None)
    if axis is None:
        for rows, slab in resize.resize_slabs(volume, shape, how.order):
            yield (rows, whole, whole), slab
        return
    thick = np.moveaxis(volume, axis, 0)
    for rows, slab in resize.resize_slices(thick, _first(shape, axis), how.order, how.order_z):
        place = [whole] * 3
        place[axis] = rows
        yield tuple(place), np.moveaxis(slab, 0, axis)


def _first(shape: Shape, axis: int) -> Shape:
    return (shape[axis], *shape[:axis], *shape[axis + 1 :])

"""Resizes label maps: each voxel gets the label with the largest share of its neighbourhood."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float64, Int, Integer

Labels = Integer[np.ndarray, "d h w"]
Resized = Integer[np.ndarray, "D H W"]

# Slices of the result that are made at a time.
SLAB = 32


@dataclasses.dataclass(frozen=True)
class Axis:
    """Where the new pixels of an axis lie among the old.

    Attributes:
        low: the old pixel before each new centre, and `high` the one after it.
        high: as `low`.
        weights: of `low` and `high`, linear in the distance.
        nearest: the old pixel that is nearest; of two, the later.
    """

    low: Int[np.ndarray, " n"]
    high: Int[np.ndarray, " n"]
    weights: tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]
    nearest: Int[np.ndarray, " n"]


def resize_linear(mask: Labels, shape: tuple[int, int, int]) -> Resized:
    """What linear interpolation of an indicator for each label says, by the largest value.

    Exact ties go to the nearest voxel's label if it is among the tied, else to the smallest, as in batchgenerators
    0.25.5. Only voxels whose neighbours differ are interpolated; there, sums run in the order of scipy.ndimage's, so
    that ties are the same to the last bit.
    """
    axes = [_axis(n, m) for n, m in zip(mask.shape, shape, strict=True)]
    result = np.empty(shape, mask.dtype)
    for start in range(0, shape[0], SLAB):
        rows = slice(start, start + SLAB)
        first = _part(axes[0], rows)
        slab = mask[np.ix_(first.nearest, axes[1].nearest, axes[2].nearest)]
        points = np.nonzero(_neighbours_differ(mask, [first, *axes[1:]]))
        slab[points] = _largest(mask, [first, *axes[1:]], points, slab[points])
        result[rows] = slab
    return result


def resize_nearest(mask: Labels, shape: tuple[int, int, int]) -> Resized:
    """The nearest voxel's label."""
    return mask[np.ix_(*(_axis(n, m).nearest for n, m in zip(mask.shape, shape, strict=True)))]


def resize_slices(mask: Labels, shape: tuple[int, int, int], order: int, order_z: int) -> Resized:
    """Each slice resized by itself, then the slices: the nearest, or by majority.

    Args:
        mask: labels, of any integer type.
        shape: of the result.
        order: in the slices: 0 nearest, 1 as `resize_linear`.
        order_z: between slices: 0 nearest; 1 each label that has more than half of the linear weight, else 0.
    """
    in_plane = (len(mask), *shape[1:])
    # Slices stay where they are, with weight 1: those beside them have no say.
    mask = (resize_linear if order else resize_nearest)(mask, in_plane)
    if not order_z or len(mask) == shape[0]:
        return resize_nearest(mask, shape)
    axis = _axis(len(mask), shape[0])
    low, high = mask[axis.low], mask[axis.high]
    for_low, for_high = (weights[:, None, None] for weights in axis.weights)
    return np.where((low == high) | (for_low > 0.5), low, np.where(for_high > 0.5, high, mask.dtype.type(0)))


def _axis(size: int, new_size: int) -> Axis:
    centres = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    low = np.floor(centres).astype(np.intp)
    # Before the first centre and after the last, both are the edge, and share its weight.
    for_low = 1 - (centres - low)
    nearest = np.floor(centres + 0.5).astype(np.intp)
    low, high, nearest = (np.clip(places, 0, size - 1) for places in (low, low + 1, nearest))
    return Axis(low, high, (for_low, 1 - for_low), nearest)


def _part(axis: Axis, rows: slice) -> Axis:
    weights = axis.weights[0][rows], axis.weights[1][rows]
    return Axis(axis.low[rows], axis.high[rows], weights, axis.nearest[rows])


def _neighbours_differ(mask: Labels, axes: list[Axis]) -> Bool[np.ndarray, "k H W"]:
    first = axes[0].low[0]
    part = mask[first : axes[0].high[-1] + 1]
    smallest = largest = part
    for axis in range(3):
        smallest, largest = (
            pick(bound, _next(bound, axis)) for pick, bound in ((np.minimum, smallest), (np.maximum, largest))
        )
    return (smallest != largest)[np.ix_(axes[0].low - first, axes[1].low, axes[2].low)]


def _next(mask: Labels, axis: int) -> Labels:
    """The neighbour after each voxel; the last is its own."""
    return np.take(mask, np.minimum(np.arange(mask.shape[axis]) + 1, mask.shape[axis] - 1), axis)


def _largest(
    mask: Labels,
    axes: list[Axis],
    points: tuple[Int[np.ndarray, " p"], ...],
    nearest: Integer[np.ndarray, " p"],
) -> Integer[np.ndarray, " p"]:
    corners = []
    for corner in np.ndindex(2, 2, 2):
        places = [(axis.low, axis.high)[side][at] for axis, side, at in zip(axes, corner, points, strict=True)]
        first, second, third = (axis.weights[side][at] for axis, side, at in zip(axes, corner, points, strict=True))
        corners.append((mask[tuple(places)], first * second * third))

    def share(label: Integer[np.ndarray, " p"] | np.integer) -> Float64[np.ndarray, " p"]:
        total = np.zeros(len(nearest))
        for labels, weights in corners:
            total += np.where(labels == label, weights, 0)
        return total

    result, best = nearest.copy(), share(nearest)
    for label in np.unique([labels for labels, _ in corners]):
        found = share(label)
        better = found > best
        result[better], best[better] = label, found[better]
    return result

"""Resizes volumes by B-splines as products with small matrices, a slab at a time.

The interpolation is scipy.ndimage's `zoom` with half-pixel centres and edges repeated, which is what
`skimage.transform.resize(mode="edge", anti_aliasing=False)` calls. A spline is separable: along each axis it is one
matrix, zero but for a band, so that slabs of a volume come out without the rest, and at the speed of matrix products.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
import scipy  # its parts are imported when first used: none before a run's first step
from jaxtyping import Float64, Num

# Output rows whose inputs are multiplied together. More rows are fewer calls, and more zeros beside the band.
ROWS = 48
# A spline's weights fall by a factor of 3.7 a pixel; those below float64's resolution are left out.
NEGLIGIBLE = 1e-17


@dataclasses.dataclass(frozen=True)
class Band:
    """Some rows of an interpolation matrix.

    Attributes:
        rows: of the output.
        columns: of the input, all that these rows depend on.
        weights: output rows by input columns.
    """

    rows: slice
    columns: slice
    weights: Float64[np.ndarray, "m n"]


def resize_slabs(
    volume: Num[np.ndarray, "d h w"], shape: tuple[int, int, int], order: int
) -> Iterator[tuple[slice, Float64[np.ndarray, "k H W"]]]:
    """The resized volume, as slabs of successive slices.

    Yields:
        Which slices, and their values, cut off to the range of `volume`.
    """
    low, high = volume.min(), volume.max()
    for rows, slab in _interpolated(volume, shape, order):
        yield rows, np.clip(slab, low, high, out=slab)


def resize_slices(
    volume: Num[np.ndarray, "d h w"], shape: tuple[int, int, int], order: int, order_z: int
) -> Iterator[tuple[slice, Float64[np.ndarray, "k H W"]]]:
    """Each slice resized by itself, with `order`, and then interpolated between slices, with `order_z`.

    Yields:
        The type of `resize_slabs`, each slice cut off to its own range before the slices are mixed.
    """
    across = bands(len(volume), shape[0], order_z)
    in_plane = [bands(n, m, order) for n, m in zip(volume.shape[1:], shape[1:], strict=True)]

    def resized(part: slice) -> Float64[np.ndarray, "k H W"]:
        slices = volume[part]
        low, high = (bound(slices, axis=(1, 2), keepdims=True) for bound in (np.min, np.max))
        return np.clip(_apply_in_plane(slices, in_plane), low, high)

    yield from _combined(across, resized)


def _interpolated(
    volume: Num[np.ndarray, "d h w"], shape: tuple[int, int, int], order: int
) -> Iterator[tuple[slice, Float64[np.ndarray, "k H W"]]]:
    across, *in_plane = (bands(n, m, order) for n, m in zip(volume.shape, shape, strict=True))
    yield from _combined(across, lambda part: _apply_in_plane(volume[part], in_plane))


def _combined(
    across: list[Band], resized: Callable[[slice], Float64[np.ndarray, "n H W"]]
) -> Iterator[tuple[slice, Float64[np.ndarray, "k H W"]]]:
    """Mixes slices that `resized` makes once each; only those that the band needs are held."""
    start, window = 0, None
    for band in across:
        stop = start if window is None else start + len(window)
        kept = [] if window is None else [window[band.columns.start - start :]]
        if stop < band.columns.stop:
            kept.append(resized(slice(max(stop, band.columns.start), band.columns.stop)))
        window, start = kept[0] if len(kept) == 1 else np.concatenate(kept), band.columns.start
        yield band.rows, np.tensordot(band.weights, window[: band.columns.stop - start], 1)


def _apply_in_plane(slices: Num[np.ndarray, "k h w"], in_plane: list[list[Band]]) -> Float64[np.ndarray, "k H W"]:
    for_rows, for_columns = in_plane
    slices = slices.astype(np.float64)
    if not _is_identity(for_rows):
        slices = np.concatenate([band.weights @ slices[:, band.columns] for band in for_rows], axis=1)
    if not _is_identity(for_columns):
        slices = np.concatenate([slices[:, :, band.columns] @ band.weights.T for band in for_columns], axis=2)
    return slices


def _is_identity(axis: list[Band]) -> bool:
    return all(band.rows == band.columns and np.array_equal(band.weights, np.eye(len(band.weights))) for band in axis)


@functools.lru_cache(maxsize=64)
def bands(size: int, new_size: int, order: int) -> list[Band]:
    """The matrix that interpolates an axis of `size` pixels at the centres of `new_size`; the identity if they agree.

    Args:
        size: pixels there are.
        new_size: pixels wanted; both span the same length.
        order: of the spline: 0 nearest, 1 linear, 3 cubic.
    """
    whole = matrix(size, new_size, order)
    result = []
    for start in range(0, new_size, ROWS):
        rows = slice(start, min(start + ROWS, new_size))
        weights = whole[rows]
        used = np.flatnonzero((np.abs(weights) > NEGLIGIBLE).any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        result.append(Band(rows, columns, np.ascontiguousarray(weights[:, columns])))
    return result


def matrix(size: int, new_size: int, order: int) -> Float64[np.ndarray, "m n"]:
    """What `bands` are the rows of, in one piece: what interpolating makes of each unit vector."""
    units = np.eye(size)
    if size == new_size:
        return units
    return scipy.ndimage.zoom(units, (new_size / size, 1), order=order, mode="nearest", grid_mode=True)

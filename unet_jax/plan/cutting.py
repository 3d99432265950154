"""Cuts a part out of a volume; what lies beyond its edges is filled."""

import numpy as np
from jaxtyping import Shaped

Places = tuple[int, ...]


def cut(volume: Shaped[np.ndarray, "d h w ..."], begin: Places, size: Places, fill: int | float) -> np.ndarray:
    """A patch of a volume, `fill` where there is none; of a memory map, only its pages are read.

    Args:
        volume: axes beyond the third are taken whole.
        begin: the patch's first voxel, which may lie outside.
        size: voxels an axis.
        fill: for what lies outside.
    """
    result = np.full((*size, *volume.shape[3:]), fill, volume.dtype)
    from_, to = [], []
    for start, count, n in zip(begin, size, volume.shape[:3], strict=True):
        first, last = max(start, 0), max(min(start + count, n), 0)
        from_.append(slice(first, last))
        to.append(slice(first - start, max(last - start, first - start)))
    if all(part.start < part.stop for part in from_):
        result[tuple(to)] = volume[tuple(from_)]
    return result

"""How much of a convolution is done at once, so that a core's cache holds what it takes."""

import bisect
import itertools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

from unet_jax.models.fast.native.geometry import Geometry
from unet_jax.models.fast.native.tiles import Tile

# What a block reads, and a tile's weights that are passed by at once, bytes: together less than the 512 KB or more that
# a core of a server has for itself.
BLOCK = 256 * 1024
WEIGHTS = 128 * 1024
# Numbers of float32 in a line of the cache.
LINE = 16


class Scratch(NamedTuple):
    """What a part of the work has for itself, numbers: first what a block of the output reads.

    Attributes:
        packed: where packed features begin.
        partial: where sums begin that are not done yet.
        scratch: how many all are.
    """

    packed: int
    partial: int
    scratch: int


def block(geometry: Geometry, also: int = 0) -> tuple[int, int]:
    """Planes and rows of the output that are made at once: as many as BLOCK allows, and at least a row.

    Args:
        geometry: of the convolution.
        also: bytes that each pixel of the output takes besides.
    """

    def bytes_of(planes: int, rows: int) -> int:
        read = 4 * geometry.channels * math.prod(geometry.read(planes, rows))
        return read + also * planes * rows * geometry.output[2]

    depth, height = geometry.output[:2]
    rows = bisect.bisect_right(range(1, height + 1), BLOCK, key=lambda rows: bytes_of(1, rows))
    if rows < height:
        return 1, max(rows, 1)
    return max(bisect.bisect_right(range(1, depth + 1), BLOCK, key=lambda planes: bytes_of(planes, height)), 1), height


def rows(spatial: Sequence[int], channels: int) -> tuple[int, int]:
    """Rows and columns of as many pixels, if neighbours do not matter: an axis a row, more where BLOCK allows it."""
    merged = itertools.accumulate(reversed(spatial), operator.mul)
    columns = max(spatial[-1], *(n for n in merged if 4 * channels * n <= BLOCK), 1)
    return math.prod(spatial) // columns, columns


def taps(geometry: Geometry, tile: Tile) -> tuple[int, int]:
    """Planes and rows of the kernel that are summed in registers: all, or as many as have WEIGHTS."""
    line = 4 * geometry.size[2] * geometry.channels * tile.width
    if math.prod(geometry.size[:2]) * line <= WEIGHTS:
        return geometry.size[:2]
    return (1, geometry.size[1]) if geometry.size[1] * line <= WEIGHTS else (1, 1)


def scratch_of_convolution(geometry: Geometry, tile: Tile, taps: tuple[int, int], blocks: tuple[int, int]) -> Scratch:
    """That of a convolution, with a tile's weights of so many taps, and its sums of a block if those are not all."""
    weights = math.prod(taps) * geometry.size[2] * geometry.channels * tile.width
    tiles = 0 if taps == geometry.size[:2] else math.prod(blocks) * -(-geometry.output[2] // tile.rows)
    return _scratch(geometry, blocks, weights, tiles * tile.rows * tile.width)


def scratch_of_kernel_gradient(geometry: Geometry, tile: Tile, blocks: tuple[int, int]) -> Scratch:
    """That of a kernel's gradient, with a tile's features of the output's gradient."""
    return _scratch(geometry, blocks, math.prod(blocks) * geometry.output[2] * tile.width, 0)


def _scratch(geometry: Geometry, blocks: tuple[int, int], packed: int, partial: int) -> Scratch:
    sizes = geometry.channels * math.prod(geometry.read(*blocks)), packed, partial
    return Scratch(*itertools.accumulate(-(-size // LINE) * LINE for size in sizes))

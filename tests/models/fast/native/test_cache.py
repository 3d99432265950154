import math

import pytest

from unet_jax.models.fast.native import cache
from unet_jax.models.fast.native.geometry import Geometry
from unet_jax.models.fast.native.tiles import Tile


def volumes(channels: int, features: int, size: tuple[int, int, int], kernel: int = 3, step: int = 1) -> Geometry:
    output = tuple((n - 1) // step + 1 for n in size)
    return Geometry(2, channels, features, size, output, (kernel,) * 3, (step,) * 3, (kernel // 2,) * 3)


@pytest.mark.parametrize("also", [0, 128])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize(
    ("channels", "size"),
    [(1, (40, 56, 40)), (32, (40, 56, 40)), (256, (5, 7, 5)), (16, (1, 128, 128)), (900, (3, 9, 90))],
)
def test_a_block_is_what_the_cache_holds_and_a_row_at_least(channels, size, step, also):
    like = volumes(channels, 32, size, step=step)
    planes, rows = cache.block(like, also)

    def taken(planes: int, rows: int) -> int:
        read = (planes - 1) * step + 3, (rows - 1) * step + 3, (like.output[2] - 1) * step + 3
        return 4 * channels * math.prod(read) + also * planes * rows * like.output[2]

    assert (planes, rows) == (1, 1) or taken(planes, rows) <= cache.BLOCK
    assert planes == 1 or rows == like.output[1]
    if rows < like.output[1]:
        assert taken(1, rows + 1) > cache.BLOCK
    elif planes < like.output[0]:
        assert taken(planes + 1, rows) > cache.BLOCK


@pytest.mark.parametrize(
    ("channels", "rows", "expected"),
    [
        (32, 8, (3, 3)),  # 27 · 32 · 32 weights, 110 KB
        (96, 8, (1, 3)),  # 332 KB, and 111 KB a plane
        (512, 8, (1, 1)),  # 590 KB a plane
    ],
)
def test_weights_pass_by_in_the_cache(channels, rows, expected):
    assert cache.taps(volumes(channels, 64, (8, 8, 8)), Tile(rows, 2, 16, False)) == expected


# Blocks of 2 planes of 9 rows, made of 4 · 11 · 15 pixels of 5 channels; tiles of 6 pixels, 3 in a row of 13, and 8
# features. A line of the kernel has 3 · 5 weights of each.
BLOCK_OF_5 = 4 * 11 * 15 * 5 + 12


@pytest.mark.parametrize(
    ("taps", "expected"),
    [
        ((3, 3), (BLOCK_OF_5, BLOCK_OF_5 + 9 * 15 * 8 + 8, BLOCK_OF_5 + 9 * 15 * 8 + 8)),
        ((1, 3), (BLOCK_OF_5, BLOCK_OF_5 + 3 * 15 * 8 + 8, BLOCK_OF_5 + 3 * 15 * 8 + 8 + 2 * 9 * 3 * 6 * 8)),
    ],
)
def test_scratch_of_a_convolution_has_weights_and_sums_that_are_not_done(taps, expected):
    like = volumes(5, 20, (6, 9, 13))
    found = cache.scratch_of_convolution(like, Tile(6, 1, 8, True), taps, (2, 9))
    assert found == expected
    assert all(n % 16 == 0 for n in found)


def test_scratch_of_a_kernels_gradient_has_the_gradient_of_a_block():
    found = cache.scratch_of_kernel_gradient(volumes(5, 20, (6, 9, 13)), Tile(5, 1, 8, True), (2, 9))
    assert found == (BLOCK_OF_5, BLOCK_OF_5 + 2 * 9 * 13 * 8, found.partial)


@pytest.mark.parametrize(
    ("spatial", "channels", "expected"),
    [
        ((40, 56, 40), 35, (2240, 40)),  # 314 KB a plane
        ((40, 56, 40), 20, (40, 2240)),  # 179 KB a plane
        ((5, 7, 5), 256, (1, 175)),  # 179 KB in all
        ((4, 100_000), 8, (4, 100_000)),  # 3 MB a row, which is whole
        ((9,), 2, (1, 9)),
    ],
)
def test_rows_of_pixels_without_neighbours_are_what_the_cache_holds_and_an_axis_at_least(spatial, channels, expected):
    assert cache.rows(spatial, channels) == expected

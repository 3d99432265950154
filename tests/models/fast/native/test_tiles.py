import itertools

import pytest

from unet_jax.models.fast.native import tiles

MACHINES = [(4, 32), (8, 16), (16, 32)]


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_tiles_fit_into_registers_and_no_vector_is_left_empty(machine):
    lanes, registers = machine
    for features, length in itertools.product(range(4, 70), range(1, 70)):
        for tile in (
            tiles.of_convolution(features, length, *machine),
            tiles.of_kernel_gradient(features, length, *machine),
        ):
            # Besides the sums, a row's number in all lanes, and the features that it meets.
            assert tile.rows * tile.vectors + 1 + tile.vectors <= registers
            assert tile.rows <= length
            filled = -(-features // lanes)
            assert filled % tile.vectors == 0
            assert tile.is_cut == (features % lanes > 0)
        assert length % tiles.of_kernel_gradient(features, length, *machine).rows == 0


@pytest.mark.parametrize(
    ("features", "columns", "machine", "expected"),
    [
        (16, 128, (16, 32), (16, 1)),
        (64, 128, (16, 32), (8, 2)),
        (64, 5, (16, 32), (5, 2)),
        (64, 28, (16, 32), (7, 2)),  # four tiles of seven, not three of eight and one that overlaps
        (48, 32, (16, 32), (16, 1)),
        (64, 128, (8, 16), (6, 2)),
        (8, 128, (8, 16), (13, 1)),  # ten tiles: 14 would take as many
    ],
)
def test_a_convolutions_tile_takes_as_many_pixels_as_divide_a_row_well(features, columns, machine, expected):
    tile = tiles.of_convolution(features, columns, *machine)
    assert (tile.rows, tile.vectors) == expected


def test_names_tell_tiles_apart():
    sizes = itertools.product((1, 11, 16), (1, 2), (4, 16), (False, True))
    made = [tiles.Tile(*size) for size in sizes]
    assert len({tile.name for tile in made}) == len(made)

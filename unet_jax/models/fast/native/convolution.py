"""The code of a convolution: tiles of pixels by features that stay in registers over all taps and channels."""

from collections.abc import Sequence

from llvmlite import ir

from unet_jax.models.fast.native import block, code
from unet_jax.models.fast.native.geometry import Numbers
from unet_jax.models.fast.native.sums import Sums
from unet_jax.models.fast.native.tiles import Tile

# The first and what follows the last.
Range = tuple[ir.Value, ir.Value]


def write(b: ir.IRBuilder, tile: Tile, n: Numbers, arrays: Sequence[ir.Value]) -> None:
    """Writes one part of: y [batch, *output, features] is the convolution of x [batch, *input, channels] with a kernel.

    Block by block of the output, so that its input stays in the cache; the features of one tile for all pixels of a
    block, so that their weights do.

    Args:
        b: where to write.
        tile: what stays in registers.
        n: integers, by name.
        arrays: of x, kernel [*size, channels, features], y and scratch, for all groups.
    """
    x, kernel, y, scratch = block.of_part(b, n, *arrays)
    sums = Sums(b, tile, n.features)
    across = code.number(tile.vectors * tile.lanes)
    tiles_across = code.quotient(b, n.features, across)
    items = block.share(b, n, code.product(b, block.count(b, n), tiles_across))
    last = code.quotient(b, items[1], tiles_across)
    with code.counting(b, last, start=b.sdiv(items[0], tiles_across)) as number:
        here = block.Block(b, n, number, scratch)
        here.copy(b, x)
        before = code.product(b, number, tiles_across)
        begin = code.larger(b, b.sub(items[0], before), 0)
        end = code.smaller(b, b.sub(items[1], before), tiles_across)
        with code.counting(b, code.product(b, end, across), across, start=code.product(b, begin, across)) as feature:
            sums.begin(b, feature)
            weights, made = code.at(b, kernel, feature), code.at(b, y, feature)
            with code.counting(b, n.size_z, n.taps_z) as z, code.counting(b, n.size_y, n.taps_y) as y_:
                taps = tuple(
                    (tap, code.smaller(b, b.add(tap, step), size))
                    for tap, step, size in ((z, n.taps_z, n.size_z), (y_, n.taps_y, n.size_y))
                )
                _add_taps(b, tile, n, sums, here, taps, weights, made)


def _add_taps(
    b: ir.IRBuilder,
    tile: Tile,
    n: Numbers,
    sums: Sums,
    here: block.Block,
    taps: tuple[Range, Range],
    weights: ir.Value,
    made: ir.Value,
) -> None:
    """Adds, to a tile's features of all pixels of a block, what some planes and rows of the kernel give."""
    is_first = b.and_(*(b.icmp_signed("==", first, code.number(0)) for first, _ in taps))
    rightmost = b.sub(n.output_x, code.number(tile.rows))
    with (
        code.counting(b, here.planes) as plane,
        code.counting(b, here.rows) as row,
        code.counting(b, n.output_x, tile.rows) as place,
    ):
        # The last tile of a row begins earlier, and some pixels are made twice.
        column = code.smaller(b, place, rightmost)
        to = code.at(b, made, here.made(b, plane, row), code.product(b, column, n.features))
        with b.if_else(is_first) as (then, otherwise):
            with then:
                sums.clear(b)
            with otherwise:
                sums.load(b, to)
        across = code.product(b, column, n.step_x, n.channels)
        with (
            code.counting(b, taps[0][1], start=taps[0][0]) as z,
            b.if_then(here.has_plane(b, plane, z)),
            code.counting(b, taps[1][1], start=taps[1][0]) as y,
        ):
            met = code.at(b, here.read(b, plane, row, z, y), across)
            line = code.product(b, b.add(code.product(b, z, n.size_y), y), n.size_x, n.channels, n.features)
            _add_line(b, tile, n, sums, met, code.at(b, weights, line))
        sums.store(b, to)


def _add_line(b: ir.IRBuilder, tile: Tile, n: Numbers, sums: Sums, met: ir.Value, weights: ir.Value) -> None:
    """Adds what one row of the kernel gives: the numbers that it meets lie side by side, columns and channels."""
    across = code.product(b, n.step_x, n.channels)
    with code.counting(b, code.product(b, n.size_x, n.channels)) as place:
        numbers = [code.at(b, met, place, code.product(b, across, pixel)) for pixel in range(tile.rows)]
        sums.add(b, numbers, code.at(b, weights, code.product(b, place, n.features)))

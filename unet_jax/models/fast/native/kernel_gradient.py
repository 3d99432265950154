"""The code of a kernel's gradient: tiles of taps by features that stay in registers over all pixels of a block."""

from collections.abc import Sequence

from llvmlite import ir

from unet_jax.models.fast.native import block, code
from unet_jax.models.fast.native.geometry import Numbers
from unet_jax.models.fast.native.sums import Sums
from unet_jax.models.fast.native.tiles import Tile


def write(b: ir.IRBuilder, tile: Tile, n: Numbers, arrays: Sequence[ir.Value]) -> None:
    """Writes one part of: a kernel's gradient [*size, channels, features], of a convolution of x.

    Block by block of the output, so that all that a block meets stays in the cache while the kernel passes by.

    Args:
        b: where to write.
        tile: what stays in registers.
        n: integers, by name.
        arrays: of x [batch, *input, channels], the output's gradient [batch, *output, features], the kernel's, and
            scratch, for all groups.
    """
    x, gradient, kernel, scratch = arrays
    x, kernel, gradient, scratch = block.of_part(b, n, x, kernel, gradient, scratch)
    sums = Sums(b, tile, n.features)
    line = code.product(b, n.size_x, n.channels)
    tiles_along = b.sdiv(line, code.number(tile.rows))
    each = code.product(b, n.size_z, n.size_y, tiles_along)
    items = block.share(b, n, b.mul(each, code.quotient(b, n.features, tile.width)))
    packed = code.at(b, scratch, n.packed)
    with code.counting(b, block.count(b, n)) as number:
        here = block.Block(b, n, number, scratch)
        here.copy(b, x)
        with block.counting_wholes(b, items, each) as (across, among):
            feature = code.product(b, across, tile.width)
            sums.begin(b, feature)
            nothing = code.number(0)
            given = code.at(b, gradient, here.made(b, nothing, nothing), feature)
            sums.pack(b, code.product(b, here.planes, here.rows, n.output_x), given, packed)
            with code.counting(b, among[1], start=among[0]) as item:
                tap, place = b.sdiv(item, tiles_along), code.product(b, b.srem(item, tiles_along), tile.rows)
                _sum_block(b, tile, n, sums, here, tap, place, packed)
                # Summed by block and then over blocks, as a sum of all pixels one by one would lose digits.
                to = code.product(b, b.add(code.product(b, tap, line), place), n.features)
                sums.store_more(b, code.at(b, kernel, to, feature), is_first=b.icmp_signed("==", number, nothing))


def _sum_block(
    b: ir.IRBuilder,
    tile: Tile,
    n: Numbers,
    sums: Sums,
    here: block.Block,
    tap: ir.Value,
    place: ir.Value,
    gradient: ir.Value,
) -> None:
    """Sums, for numbers from a place on that a row of the kernel meets, over all pixels of a block.

    The features of the output's gradient are packed for the block, whose pixels follow one another.
    """
    z, y = b.sdiv(tap, n.size_y), b.srem(tap, n.size_y)
    sums.clear(b)
    with (
        code.counting(b, here.planes) as plane,
        b.if_then(here.has_plane(b, plane, z)),
        code.counting(b, here.rows) as row,
    ):
        met = code.at(b, here.read(b, plane, row, z, y), place)
        row_of_block = b.add(code.product(b, plane, here.rows), row)
        given = code.at(b, gradient, code.product(b, row_of_block, n.output_x, tile.width))
        with code.counting(b, n.output_x) as column:
            of_pixel = code.at(b, met, code.product(b, column, n.step_x, n.channels))
            numbers = [code.at(b, of_pixel, number) for number in range(tile.rows)]
            sums.add(b, numbers, code.at(b, given, code.product(b, column, tile.width)))

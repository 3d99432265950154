"""The code of a kernel's gradient: tiles of taps by features that stay in registers over all pixels of a block."""

from collections.abc import Sequence

from llvmlite import ir

from unet_jax.models.fast.native import block, code
from unet_jax.models.fast.native.geometry import Numbers
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
    registers = code.Registers(b, tile.rows, tile.vectors, tile.lanes)
    across = tile.vectors * tile.lanes
    line = code.product(b, n.size_x, n.channels)
    tiles_across, tiles_along = code.quotient(b, n.features, across), b.sdiv(line, code.number(tile.rows))
    items = block.share(b, n, code.product(b, n.size_z, n.size_y, tiles_across, tiles_along))
    with code.counting(b, block.count(b, n)) as number:
        here = block.Block(b, n, number, scratch)
        here.copy(b, x)
        with code.counting(b, items[1], start=items[0]) as item:
            place = code.product(b, b.srem(item, tiles_along), tile.rows)
            rest = b.sdiv(item, tiles_along)
            feature = code.product(b, b.srem(rest, tiles_across), across)
            tap = b.sdiv(rest, tiles_across)
            taps = b.sdiv(tap, n.size_y), b.srem(tap, n.size_y)
            masks = tile.masks(b, b.sub(n.features, feature))
            given = code.at(b, gradient, feature)
            _sum_block(b, tile, n, registers, here, taps, place, given, masks)
            to = code.at(b, kernel, code.product(b, b.add(code.product(b, tap, line), place), n.features), feature)
            is_first = b.icmp_signed("==", number, code.number(0))
            # Summed by block and then over blocks, as a sum of all pixels one by one would lose digits.
            for i, v in tile.places():
                total = code.at(b, to, code.product(b, n.features, i), v * tile.lanes)
                before = b.select(is_first, code.zeros(tile.lanes), code.load(b, total, tile.lanes, masks[v]))
                code.store(b, b.fadd(before, registers.get(b, i, v)), total, masks[v])


def _sum_block(b, tile, n, registers, here, taps, place, given, masks) -> None:
    """Sums, in registers, over all pixels of a block."""
    for i, v in tile.places():
        registers.set(b, i, v, code.zeros(tile.lanes))
    with code.counting(b, here.planes) as plane, b.if_then(here.has_plane(b, plane, taps[0])):
        with code.counting(b, here.rows) as row:
            met = code.at(b, here.read(b, plane, row, *taps), place)
            _add_row(b, tile, n, registers, met, code.at(b, given, here.made(b, plane, row)), masks)


def _add_row(b, tile, n, registers, met, given, masks) -> None:
    """Adds the pixels of a row, each with its gradient."""
    with code.counting(b, n.output_x) as column:
        here = code.at(b, given, code.product(b, column, n.features))
        gradients = [code.load(b, code.at(b, here, v * tile.lanes), tile.lanes, masks[v]) for v in range(tile.vectors)]
        around = code.at(b, met, code.product(b, column, n.step_x, n.channels))
        for i in range(tile.rows):
            number = code.spread(b, code.at(b, around, i), tile.lanes)
            for v in range(tile.vectors):
                registers.set(b, i, v, code.multiply_add(b, number, gradients[v], registers.get(b, i, v)))

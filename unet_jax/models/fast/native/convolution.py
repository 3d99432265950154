"""The code of a convolution: tiles of pixels by features that stay in registers over all taps and channels."""

from collections.abc import Sequence

from llvmlite import ir

from unet_jax.models.fast.native import block, code
from unet_jax.models.fast.native.geometry import Numbers
from unet_jax.models.fast.native.tiles import Tile


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
    registers = code.Registers(b, tile.rows, tile.vectors, tile.lanes)
    across = code.number(tile.vectors * tile.lanes)
    tiles_across = code.quotient(b, n.features, across)
    items = block.share(b, n, code.product(b, block.count(b, n), tiles_across))
    first, last = b.sdiv(items[0], tiles_across), code.quotient(b, items[1], tiles_across)
    with code.counting(b, last, start=first) as number:
        here = block.Block(b, n, number, scratch)
        here.copy(b, x)
        before = code.product(b, number, tiles_across)
        begin = code.larger(b, b.sub(items[0], before), 0)
        end = code.smaller(b, b.sub(items[1], before), tiles_across)
        with code.counting(b, code.product(b, end, across), across, start=code.product(b, begin, across)) as feature:
            masks = tile.masks(b, b.sub(n.features, feature))
            with code.counting(b, n.size_z, n.taps_z) as tap_z, code.counting(b, n.size_y, n.taps_y) as tap_y:
                taps = (tap_z, b.add(tap_z, n.taps_z)), (tap_y, b.add(tap_y, n.taps_y))
                to = code.at(b, y, feature)
                _add_taps(b, tile, n, registers, here, taps, code.at(b, kernel, feature), to, masks)


def _add_taps(b, tile, n, registers, here, taps, weights, made, masks) -> None:
    """Adds, to a tile's features of all pixels of a block, what some planes and rows of the kernel give."""
    is_first = b.and_(b.icmp_signed("==", taps[0][0], code.number(0)), b.icmp_signed("==", taps[1][0], code.number(0)))
    last = b.sub(n.output_x, code.number(tile.rows))
    with code.counting(b, here.planes) as plane, code.counting(b, here.rows) as row:
        with code.counting(b, n.output_x, tile.rows) as column:
            # The last tile of a row begins earlier, and some pixels are made twice.
            column = code.smaller(b, column, last)
            to = code.at(b, made, here.made(b, plane, row), code.product(b, column, n.features))
            with b.if_else(is_first) as (then, otherwise):
                with then:
                    for i, v in tile.places():
                        registers.set(b, i, v, code.zeros(tile.lanes))
                with otherwise:
                    for i, v in tile.places():
                        registers.set(b, i, v, code.load(b, _place(b, tile, n, to, i, v), tile.lanes, masks[v]))
            with code.counting(b, code.smaller(b, taps[0][1], n.size_z), start=taps[0][0]) as z:
                with b.if_then(here.has_plane(b, plane, z)):
                    with code.counting(b, code.smaller(b, taps[1][1], n.size_y), start=taps[1][0]) as y:
                        around = code.at(
                            b, here.read(b, plane, row, z, y), code.product(b, column, n.step_x, n.channels)
                        )
                        number = b.add(code.product(b, z, n.size_y), y)
                        line = code.product(b, number, n.size_x, n.channels, n.features)
                        _add_line(b, tile, n, registers, around, code.at(b, weights, line), masks)
            for i, v in tile.places():
                code.store(b, registers.get(b, i, v), _place(b, tile, n, to, i, v), masks[v])


def _add_line(b, tile, n, registers, around, weights, masks) -> None:
    """Adds what one row of the kernel gives: the numbers that it meets lie side by side, columns and channels."""
    with code.counting(b, code.product(b, n.size_x, n.channels)) as place:
        here = code.at(b, weights, code.product(b, place, n.features))
        of_place = [code.load(b, code.at(b, here, v * tile.lanes), tile.lanes, masks[v]) for v in range(tile.vectors)]
        for i in range(tile.rows):
            met = code.spread(b, code.at(b, around, place, code.product(b, n.step_x, n.channels, i)), tile.lanes)
            for v in range(tile.vectors):
                registers.set(b, i, v, code.multiply_add(b, met, of_place[v], registers.get(b, i, v)))


def _place(b, tile, n, to, pixel, vector) -> ir.Value:
    return code.at(b, to, code.product(b, n.features, pixel), vector * tile.lanes)

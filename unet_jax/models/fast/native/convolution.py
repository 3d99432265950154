"""The code of a convolution: tiles of pixels by features that stay in registers over all taps and channels."""

from llvmlite import ir

from unet_jax.models.fast.native import code
from unet_jax.models.fast.native.block import Block
from unet_jax.models.fast.native.geometry import Numbers
from unet_jax.models.fast.native.tiles import Tile


def write(
    b: ir.IRBuilder, tile: Tile, n: Numbers, x: ir.Value, kernel: ir.Value, y: ir.Value, scratch: ir.Value
) -> None:
    """Writes: `y` [batch, *output, features] is the convolution of `x` [batch, *input, channels] with `kernel`.

    Block by block of the output, so that its input stays in the cache; the features of one tile for all pixels of a
    block, so that their weights do.
    """
    of_input = code.product(b, n.input_z, n.input_y, n.input_x, n.channels)
    of_output = code.product(b, n.output_z, n.output_y, n.output_x, n.features)
    registers = code.Registers(b, tile.rows, tile.vectors, tile.lanes)
    of_kernel = code.product(b, n.size_z, n.size_y, n.size_x, n.channels, n.features)
    volumes = code.product(b, n.groups, n.batch)
    with code.counting(b, volumes) as volume, code.counting(b, n.output_z, n.block_z) as plane:
        its_kernel = code.at(b, kernel, code.product(b, b.sdiv(volume, n.batch), of_kernel))
        with code.counting(b, n.output_y, n.block_y) as row:
            block = Block(b, n, plane, row, scratch)
            block.copy(b, code.at(b, x, code.product(b, volume, of_input)))
            made = code.at(b, y, code.product(b, volume, of_output))
            with code.counting(b, n.features, tile.vectors * tile.lanes) as feature:
                masks = tile.masks(b, b.sub(n.features, feature))
                with code.counting(b, n.size_z, n.taps_z) as z, code.counting(b, n.size_y, n.taps_y) as y_:
                    taps = (z, b.add(z, n.taps_z)), (y_, b.add(y_, n.taps_y))
                    weights = code.at(b, its_kernel, feature)
                    _add_taps(b, tile, n, registers, block, taps, weights, code.at(b, made, feature), masks)


def _add_taps(b, tile, n, registers, block, taps, weights, made, masks) -> None:
    """Adds, to a tile's features of all pixels of a block, what some planes and rows of the kernel give."""
    is_first = b.and_(b.icmp_signed("==", taps[0][0], code.number(0)), b.icmp_signed("==", taps[1][0], code.number(0)))
    last = b.sub(n.output_x, code.number(tile.rows))
    with code.counting(b, block.planes) as plane, code.counting(b, block.rows) as row:
        with code.counting(b, n.output_x, tile.rows) as column:
            # The last tile of a row begins earlier, and some pixels are made twice.
            column = code.smaller(b, column, last)
            to = code.at(b, made, block.made(b, plane, row), code.product(b, column, n.features))
            with b.if_else(is_first) as (then, otherwise):
                with then:
                    for i, v in tile.places():
                        registers.set(b, i, v, code.zeros(tile.lanes))
                with otherwise:
                    for i, v in tile.places():
                        registers.set(b, i, v, code.load(b, _place(b, tile, n, to, i, v), tile.lanes, masks[v]))
            with code.counting(b, code.smaller(b, taps[0][1], n.size_z), start=taps[0][0]) as z:
                with b.if_then(block.has_plane(b, plane, z)):
                    with code.counting(b, code.smaller(b, taps[1][1], n.size_y), start=taps[1][0]) as y:
                        around = code.at(
                            b, block.read(b, plane, row, z, y), code.product(b, column, n.step_x, n.channels)
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

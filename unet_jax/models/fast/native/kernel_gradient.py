"""The code of a kernel's gradient: tiles of taps by features that stay in registers over all pixels of a block."""

from llvmlite import ir

from unet_jax.models.fast.native import code
from unet_jax.models.fast.native.block import Block
from unet_jax.models.fast.native.geometry import Numbers
from unet_jax.models.fast.native.tiles import Tile


def write(
    b: ir.IRBuilder, tile: Tile, n: Numbers, x: ir.Value, gradient: ir.Value, kernel: ir.Value, scratch: ir.Value
) -> None:
    """Writes: `kernel` [*size, channels, features] is the gradient of a convolution of `x` whose output has `gradient`.

    Block by block of the output, so that all that a block meets stays in the cache while the kernel passes by.
    """
    of_input = code.product(b, n.input_z, n.input_y, n.input_x, n.channels)
    of_output = code.product(b, n.output_z, n.output_y, n.output_x, n.features)
    of_kernel = code.product(b, n.size_z, n.size_y, n.size_x, n.channels, n.features)
    code.clear(b, kernel, code.product(b, n.groups, of_kernel))
    registers = code.Registers(b, tile.rows, tile.vectors, tile.lanes)
    volumes = code.product(b, n.groups, n.batch)
    with code.counting(b, volumes) as volume, code.counting(b, n.output_z, n.block_z) as plane:
        with code.counting(b, n.output_y, n.block_y) as row:
            block = Block(b, n, plane, row, scratch)
            block.copy(b, code.at(b, x, code.product(b, volume, of_input)))
            given = code.at(b, gradient, code.product(b, volume, of_output))
            to = code.at(b, kernel, code.product(b, b.sdiv(volume, n.batch), of_kernel))
            _add_block(b, tile, n, registers, block, given, to)


def _add_block(b, tile, n, registers, block, given, kernel) -> None:
    line = code.product(b, n.size_x, n.channels)
    with code.counting(b, n.size_z) as z, code.counting(b, n.size_y) as y:
        number = code.product(b, b.add(code.product(b, z, n.size_y), y), line)
        with code.counting(b, n.features, tile.vectors * tile.lanes) as feature:
            masks = tile.masks(b, b.sub(n.features, feature))
            with code.counting(b, line, tile.rows) as place:
                to = code.at(b, kernel, code.product(b, b.add(number, place), n.features), feature)
                for i, v in tile.places():
                    registers.set(b, i, v, code.zeros(tile.lanes))
                with code.counting(b, block.planes) as plane, b.if_then(block.has_plane(b, plane, z)):
                    with code.counting(b, block.rows) as row:
                        met = code.at(b, block.read(b, plane, row, z, y), place)
                        _add_row(b, tile, n, registers, met, code.at(b, given, block.made(b, plane, row), feature), masks)
                # Summed by block and then over blocks, as a sum of all pixels one by one would lose digits.
                for i, v in tile.places():
                    place_ = _place(b, tile, n, to, i, v)
                    before = code.load(b, place_, tile.lanes, masks[v])
                    code.store(b, b.fadd(before, registers.get(b, i, v)), place_, masks[v])


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


def _place(b, tile, n, to, row, vector) -> ir.Value:
    return code.at(b, to, code.product(b, n.features, row), vector * tile.lanes)

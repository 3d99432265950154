"""The code of a convolution: tiles of pixels by features that stay in registers over all taps and channels."""

from collections.abc import Sequence

from llvmlite import ir

from unet_jax.models.fast.native import block, code
from unet_jax.models.fast.native.block import Range
from unet_jax.models.fast.native.geometry import Numbers
from unet_jax.models.fast.native.sums import Sums
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
    sums = Sums(b, tile, n.features)
    tiles_across = code.quotient(b, n.features, tile.width)
    items = block.share(b, n, code.product(b, block.count(b, n), tiles_across))
    with block.counting_wholes(b, items, tiles_across) as (number, among):
        here = block.Block(b, n, number, scratch)
        here.copy(b, x)
        with (
            code.counting(b, among[1], start=among[0]) as across,
            code.counting(b, n.size_z, n.taps_z) as z,
            code.counting(b, n.size_y, n.taps_y) as y_,
        ):
            feature = code.product(b, across, tile.width)
            sums.begin(b, feature)
            taps = tuple(
                (tap, code.smaller(b, b.add(tap, step), size))
                for tap, step, size in ((z, n.taps_z, n.size_z), (y_, n.taps_y, n.size_y))
            )
            _pack(b, tile, n, sums, taps, code.at(b, kernel, feature), code.at(b, scratch, n.packed))
            _add_taps(b, tile, n, sums, here, taps, scratch, code.at(b, y, feature))


def _pack(
    b: ir.IRBuilder, tile: Tile, n: Numbers, sums: Sums, taps: tuple[Range, Range], kernel: ir.Value, to: ir.Value
) -> None:
    """Packs a tile's weights of some planes and rows of the kernel."""
    length = code.product(b, n.size_x, n.channels)
    with code.counting(b, taps[0][1], start=taps[0][0]) as z, code.counting(b, taps[1][1], start=taps[1][0]) as y:
        number = b.add(code.product(b, z, n.size_y), y)
        source = code.at(b, kernel, code.product(b, number, length, n.features))
        sums.pack(b, length, source, code.at(b, to, _packed_line(b, tile, n, taps, z, y)))


def _packed_line(
    b: ir.IRBuilder, tile: Tile, n: Numbers, taps: tuple[Range, Range], z: ir.Value, y: ir.Value
) -> ir.Value:
    """Where the weights of a row of the kernel are, among those that are packed."""
    (first_z, _), (first_y, stop_y) = taps
    number = b.add(code.product(b, b.sub(z, first_z), b.sub(stop_y, first_y)), b.sub(y, first_y))
    return code.product(b, number, n.size_x, n.channels, tile.width)


def _add_taps(
    b: ir.IRBuilder,
    tile: Tile,
    n: Numbers,
    sums: Sums,
    here: block.Block,
    taps: tuple[Range, Range],
    scratch: ir.Value,
    made: ir.Value,
) -> None:
    """Adds, to a tile's features of all pixels of a block, what some planes and rows of the kernel give.

    Sums that other taps are missing from are kept apart, as two tiles may have pixels in common.
    """
    is_first = b.and_(*(b.icmp_signed("==", first, code.number(0)) for first, _ in taps))
    is_last = b.and_(*(b.icmp_signed("==", taps[i][1], size) for i, size in enumerate((n.size_z, n.size_y))))
    rightmost, in_row = b.sub(n.output_x, code.number(tile.rows)), code.quotient(b, n.output_x, tile.rows)
    with (
        code.counting(b, here.planes) as plane,
        code.counting(b, here.rows) as row,
        code.counting(b, in_row) as place,
    ):
        # The last tile of a row begins earlier, and some pixels are made twice.
        column = code.smaller(b, code.product(b, place, tile.rows), rightmost)
        number = code.total(b, code.product(b, plane, here.rows, in_row), code.product(b, row, in_row), place)
        partial = code.at(b, scratch, n.partial, code.product(b, number, tile.rows * tile.width))
        with b.if_else(is_first) as (then, otherwise):
            with then:
                sums.clear(b)
            with otherwise:
                sums.load_packed(b, partial)
        across = code.product(b, column, n.step_x, n.channels)
        with (
            code.counting(b, taps[0][1], start=taps[0][0]) as z,
            b.if_then(here.has_plane(b, plane, z)),
            code.counting(b, taps[1][1], start=taps[1][0]) as y,
        ):
            met = code.at(b, here.read(b, plane, row, z, y), across)
            _add_line(b, tile, n, sums, met, code.at(b, scratch, n.packed, _packed_line(b, tile, n, taps, z, y)))
        with b.if_else(is_last) as (then, otherwise):
            with then:
                sums.store(b, code.at(b, made, here.made(b, plane, row), code.product(b, column, n.features)))
            with otherwise:
                sums.store_packed(b, partial)


def _add_line(b: ir.IRBuilder, tile: Tile, n: Numbers, sums: Sums, met: ir.Value, weights: ir.Value) -> None:
    """Adds what one row of the kernel gives: the numbers that it meets lie side by side, columns and channels."""
    across = code.product(b, n.step_x, n.channels)
    with code.counting(b, code.product(b, n.size_x, n.channels)) as place:
        numbers = [code.at(b, met, place, code.product(b, across, pixel)) for pixel in range(tile.rows)]
        sums.add(b, numbers, code.at(b, weights, code.product(b, place, tile.width)))

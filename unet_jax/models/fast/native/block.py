"""Part of a convolution's input with the zeros around it, copied to where the cache keeps it."""

import contextlib
from collections.abc import Iterator

from llvmlite import ir

from unet_jax.models.fast.native import code
from unet_jax.models.fast.native.geometry import Numbers

# The first and what follows the last.
Range = tuple[ir.Value, ir.Value]


def of_part(
    b: ir.IRBuilder, n: Numbers, x: ir.Value, kernel: ir.Value, output: ir.Value, scratch: ir.Value
) -> tuple[ir.Value, ...]:
    """The same arrays of a part's group, and a scratch of its own."""
    of_x = code.product(b, n.batch, n.input_z, n.input_y, n.input_x, n.channels)
    of_kernel = code.product(b, n.size_z, n.size_y, n.size_x, n.channels, n.features)
    of_output = code.product(b, n.batch, n.output_z, n.output_y, n.output_x, n.features)
    its = [(x, of_x), (kernel, of_kernel), (output, of_output)]
    own = code.product(b, b.add(code.product(b, n.group, n.parts), n.part), n.scratch)
    return *(code.at(b, array, code.product(b, n.group, size)) for array, size in its), code.at(b, scratch, own)


def share(b: ir.IRBuilder, n: Numbers, count: ir.Value) -> Range:
    """The first of a part's share of so many items, and what follows the last one."""
    ends = [b.sdiv(code.product(b, count, part), n.parts) for part in (n.part, b.add(n.part, code.number(1)))]
    return ends[0], ends[1]


def count(b: ir.IRBuilder, n: Numbers) -> ir.Value:
    """How many blocks a group has."""
    return code.product(b, n.batch, code.quotient(b, n.output_z, n.block_z), code.quotient(b, n.output_y, n.block_y))


@contextlib.contextmanager
def counting_wholes(b: ir.IRBuilder, items: Range, each: ir.Value) -> Iterator[tuple[ir.Value, Range]]:
    """A loop over what some items belong to, so many each: its number, and which of its items are among them."""
    with code.counting(b, code.quotient(b, items[1], each), start=b.sdiv(items[0], each)) as number:
        before = code.product(b, number, each)
        first, stop = b.sub(items[0], before), b.sub(items[1], before)
        yield number, (code.larger(b, first, 0), code.smaller(b, stop, each))


class Block:
    """Planes and rows of the output that are made at once, and where what they are made of lies.

    Attributes:
        planes, rows: of the output, how many.
    """

    def __init__(self, b: ir.IRBuilder, n: Numbers, number: ir.Value, scratch: ir.Value):
        self._n, self._scratch = n, scratch
        down, deep = code.quotient(b, n.output_y, n.block_y), code.quotient(b, n.output_z, n.block_z)
        self._volume = b.sdiv(b.sdiv(number, down), deep)
        self._first_plane = code.product(b, b.srem(b.sdiv(number, down), deep), n.block_z)
        self._first_row = code.product(b, b.srem(number, down), n.block_y)
        self.planes = code.smaller(b, n.block_z, b.sub(n.output_z, self._first_plane))
        self.rows = code.smaller(b, n.block_y, b.sub(n.output_y, self._first_row))
        self._read_rows = _reach(b, self.rows, n.step_y, n.size_y)
        self._read_columns = _reach(b, n.output_x, n.step_x, n.size_x)

    def copy(self, b: ir.IRBuilder, x: ir.Value) -> None:
        """Copies what the block reads of its volume: [planes, rows, columns, channels], zeros around it included."""
        n = self._n
        with code.counting(b, _reach(b, self.planes, n.step_z, n.size_z)) as plane:
            z = b.add(code.product(b, self._first_plane, n.step_z), b.sub(plane, n.before_z))
            with code.counting(b, self._read_rows) as row:
                y = b.add(code.product(b, self._first_row, n.step_y), b.sub(row, n.before_y))
                is_there = b.and_(code.is_within(b, z, n.input_z), code.is_within(b, y, n.input_y))
                number = b.add(code.product(b, plane, self._read_rows), row)
                to = code.at(b, self._scratch, code.product(b, number, self._read_columns, n.channels))
                with b.if_else(is_there) as (then, otherwise):
                    with then:
                        first = b.add(code.product(b, self._volume, n.input_z), z)
                        source = b.add(code.product(b, first, n.input_y), y)
                        self._copy_row(b, to, code.at(b, x, code.product(b, source, n.input_x, n.channels)))
                    with otherwise:
                        code.clear(b, to, code.product(b, self._read_columns, n.channels))

    def _copy_row(self, b: ir.IRBuilder, to: ir.Value, source: ir.Value) -> None:
        """A row of the input, from its first column on, with the zeros before and after it."""
        n = self._n
        columns, nothing = self._read_columns, code.number(0)
        before = code.smaller(b, code.larger(b, n.before_x, nothing), columns)
        left_out = code.larger(b, b.sub(nothing, n.before_x), nothing)
        there = code.smaller(b, b.sub(columns, before), code.larger(b, b.sub(n.input_x, left_out), nothing))
        after = b.sub(b.sub(columns, before), there)
        begin = code.product(b, before, n.channels)
        end = code.product(b, b.add(before, there), n.channels)
        code.clear(b, to, begin)
        code.copy(
            b, code.at(b, to, begin), code.at(b, source, code.product(b, left_out, n.channels)), b.sub(end, begin)
        )
        code.clear(b, code.at(b, to, end), code.product(b, after, n.channels))

    def has_plane(self, b: ir.IRBuilder, plane: ir.Value, tap: ir.Value) -> ir.Value:
        """Whether the input has the plane that a tap of the kernel meets for a plane of the block."""
        n = self._n
        z = b.add(code.product(b, b.add(self._first_plane, plane), n.step_z), b.sub(tap, n.before_z))
        return code.is_within(b, z, n.input_z)

    def read(self, b: ir.IRBuilder, plane: ir.Value, row: ir.Value, tap_z: ir.Value, tap_y: ir.Value) -> ir.Value:
        """Address of the first number that these taps meet for a row of a plane of the block."""
        n = self._n
        z = b.add(code.product(b, plane, n.step_z), tap_z)
        y = b.add(code.product(b, row, n.step_y), tap_y)
        number = b.add(code.product(b, z, self._read_rows), y)
        return code.at(b, self._scratch, code.product(b, number, self._read_columns, n.channels))

    def made(self, b: ir.IRBuilder, plane: ir.Value, row: ir.Value) -> ir.Value:
        """Place of the first number of a row of a plane of the block, in the output of its group."""
        n = self._n
        z = b.add(code.product(b, self._volume, n.output_z), b.add(self._first_plane, plane))
        y = b.add(code.product(b, z, n.output_y), b.add(self._first_row, row))
        return code.product(b, y, n.output_x, n.features)


def _reach(b: ir.IRBuilder, count: ir.Value, step: ir.Value, size: ir.Value) -> ir.Value:
    """How many rows so many rows of the output are made of."""
    return b.add(code.product(b, b.sub(count, code.number(1)), step), size)

"""Part of a convolution's input with the zeros around it, copied to where the cache keeps it."""

from llvmlite import ir

from unet_jax.models.fast.native import code
from unet_jax.models.fast.native.geometry import Numbers


class Block:
    """Planes and rows of the output that are made at once, and where what they are made of lies.

    Attributes:
        planes, rows: of the output, how many.
        first_plane, first_row: of the output.
    """

    def __init__(self, b: ir.IRBuilder, n: Numbers, first_plane: ir.Value, first_row: ir.Value, scratch: ir.Value):
        self._n, self._scratch = n, scratch
        self.first_plane, self.first_row = first_plane, first_row
        self.planes = code.smaller(b, n.block_z, b.sub(n.output_z, first_plane))
        self.rows = code.smaller(b, n.block_y, b.sub(n.output_y, first_row))
        self._read_rows = _reach(b, self.rows, n.step_y, n.size_y)
        self._read_columns = _reach(b, n.output_x, n.step_x, n.size_x)

    def copy(self, b: ir.IRBuilder, image: ir.Value) -> None:
        """Copies what the block reads of a volume: [planes, rows, columns, channels], zeros around it included."""
        n = self._n
        with code.counting(b, _reach(b, self.planes, n.step_z, n.size_z)) as plane:
            z = self._source(b, self.first_plane, plane, n.step_z, n.before_z)
            with code.counting(b, self._read_rows) as row:
                y = self._source(b, self.first_row, row, n.step_y, n.before_y)
                is_there = b.and_(code.is_within(b, z, n.input_z), code.is_within(b, y, n.input_y))
                number = code.total(b, code.product(b, plane, self._read_rows), row)
                to = code.at(b, self._scratch, code.product(b, number, self._read_columns, n.channels))
                with b.if_else(is_there) as (then, otherwise):
                    with then:
                        source = code.product(b, code.total(b, code.product(b, z, n.input_y), y), n.input_x, n.channels)
                        self._copy_row(b, to, code.at(b, image, source))
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
        code.copy(b, code.at(b, to, begin), code.at(b, source, code.product(b, left_out, n.channels)), b.sub(end, begin))
        code.clear(b, code.at(b, to, end), code.product(b, after, n.channels))

    def has_plane(self, b: ir.IRBuilder, plane: ir.Value, tap: ir.Value) -> ir.Value:
        """Whether the input has the plane that a tap of the kernel meets for a plane of the block."""
        n = self._n
        z = b.add(code.product(b, b.add(self.first_plane, plane), n.step_z), b.sub(tap, n.before_z))
        return code.is_within(b, z, n.input_z)

    def read(self, b: ir.IRBuilder, plane: ir.Value, row: ir.Value, tap_z: ir.Value, tap_y: ir.Value) -> ir.Value:
        """Address of the first number that these taps meet for a row of a plane of the block."""
        n = self._n
        z = b.add(code.product(b, plane, n.step_z), tap_z)
        y = b.add(code.product(b, row, n.step_y), tap_y)
        number = b.add(code.product(b, z, self._read_rows), y)
        return code.at(b, self._scratch, code.product(b, number, self._read_columns, n.channels))

    def made(self, b: ir.IRBuilder, plane: ir.Value, row: ir.Value) -> ir.Value:
        """Place of the first number of a row of a plane of the block, in an output of one volume."""
        n = self._n
        y = b.add(code.product(b, b.add(self.first_plane, plane), n.output_y), b.add(self.first_row, row))
        return code.product(b, y, n.output_x, n.features)

    def _source(self, b: ir.IRBuilder, first: ir.Value, here: ir.Value, step: ir.Value, before: ir.Value) -> ir.Value:
        return b.add(code.product(b, first, step), b.sub(here, before))


def _reach(b: ir.IRBuilder, count: ir.Value, step: ir.Value, size: ir.Value) -> ir.Value:
    """How many rows so many rows of the output are made of."""
    return b.add(code.product(b, b.sub(count, code.number(1)), step), size)

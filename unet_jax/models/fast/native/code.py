"""The vocabulary of generated code: loops, vectors of float32 and addresses, as LLVM instructions.

Every function takes the builder `b`, which stands where the next instruction goes, first.
"""

import contextlib
from collections.abc import Iterator

from llvmlite import ir

INT = ir.IntType(64)
FLOAT = ir.FloatType()
POINTER = ir.PointerType()
_INDEX = ir.IntType(32)

Number = ir.Value | int


def number(value: Number) -> ir.Value:
    """A 64-bit integer that the code knows, or computes."""
    return ir.Constant(INT, value) if isinstance(value, int) else value


@contextlib.contextmanager
def counting(b: ir.IRBuilder, stop: Number, step: Number = 1, *, start: Number = 0) -> Iterator[ir.Value]:
    """A loop, whose body is what is written within it: from `start` while below `stop`, by `step`."""
    start, stop, step = number(start), number(stop), number(step)
    before = b.block
    head, body, after = (b.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    count = b.phi(INT)
    count.add_incoming(start, before)
    b.cbranch(b.icmp_signed("<", count, stop), body, after)
    b.position_at_end(body)
    yield count
    count.add_incoming(b.add(count, step), b.block)
    b.branch(head)
    b.position_at_end(after)


def product(b: ir.IRBuilder, first: Number, *others: Number) -> ir.Value:
    """The product of integers."""
    found = number(first)
    for other in others:
        found = b.mul(found, number(other))
    return found


def total(b: ir.IRBuilder, first: Number, *others: Number) -> ir.Value:
    """The sum of integers."""
    found = number(first)
    for other in others:
        found = b.add(found, number(other))
    return found


def quotient(b: ir.IRBuilder, value: Number, by: Number) -> ir.Value:
    """Value / by, rounded up."""
    by = number(by)
    return b.sdiv(b.add(number(value), b.sub(by, number(1))), by)


def smaller(b: ir.IRBuilder, one: Number, other: Number) -> ir.Value:
    """The smaller of two integers."""
    one, other = number(one), number(other)
    return b.select(b.icmp_signed("<", one, other), one, other)


def larger(b: ir.IRBuilder, one: Number, other: Number) -> ir.Value:
    """The larger of two integers."""
    one, other = number(one), number(other)
    return b.select(b.icmp_signed(">", one, other), one, other)


def is_within(b: ir.IRBuilder, value: ir.Value, stop: ir.Value) -> ir.Value:
    """Whether 0 <= value < stop."""
    return b.icmp_unsigned("<", value, stop)


def at(b: ir.IRBuilder, pointer: ir.Value, *offsets: Number) -> ir.Value:
    """The address so many numbers further."""
    return b.gep(pointer, [total(b, *offsets)], source_etype=FLOAT)


def vector(lanes: int) -> ir.VectorType:
    """The type of so many numbers of float32."""
    return ir.VectorType(FLOAT, lanes)


def zeros(lanes: int) -> ir.Constant:
    """A vector of zeros."""
    return ir.Constant(vector(lanes), [0.0] * lanes)


def spread(b: ir.IRBuilder, pointer: ir.Value, lanes: int) -> ir.Value:
    """The number at an address, in all lanes of a vector."""
    value = b.load(pointer, align=4, typ=FLOAT)
    nothing = ir.Constant(vector(lanes), ir.Undefined)
    first = b.insert_element(nothing, value, ir.Constant(_INDEX, 0))
    return b.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INDEX, lanes), [0] * lanes))


def first_lanes(b: ir.IRBuilder, count: ir.Value, lanes: int) -> ir.Value:
    """A mask of the lanes below `count`."""
    places = ir.Constant(ir.VectorType(INT, lanes), list(range(lanes)))
    nothing = ir.Constant(ir.VectorType(INT, lanes), ir.Undefined)
    first = b.insert_element(nothing, count, ir.Constant(_INDEX, 0))
    counts = b.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INDEX, lanes), [0] * lanes))
    return b.icmp_signed("<", places, counts)


def load(b: ir.IRBuilder, pointer: ir.Value, lanes: int, mask: ir.Value | None = None) -> ir.Value:
    """A vector from memory; zeros outside `mask`, where memory is not read."""
    if mask is None:
        return b.load(pointer, align=4, typ=vector(lanes))
    name = f"llvm.masked.load.v{lanes}f32.p0"
    read = _declared(b, name, vector(lanes), [POINTER, _INDEX, ir.VectorType(ir.IntType(1), lanes), vector(lanes)])
    return b.call(read, [pointer, ir.Constant(_INDEX, 4), mask, zeros(lanes)])


def store(b: ir.IRBuilder, value: ir.Value, pointer: ir.Value, mask: ir.Value | None = None) -> None:
    """A vector to memory; what lies outside `mask` stays."""
    lanes = value.type.count
    if mask is None:
        b.store(value, pointer, align=4)
        return
    name = f"llvm.masked.store.v{lanes}f32.p0"
    types = [vector(lanes), POINTER, _INDEX, ir.VectorType(ir.IntType(1), lanes)]
    b.call(_declared(b, name, ir.VoidType(), types), [value, pointer, ir.Constant(_INDEX, 4), mask])


def multiply_add(b: ir.IRBuilder, one: ir.Value, other: ir.Value, sum_: ir.Value) -> ir.Value:
    """One · other + sum_ for each lane, rounded once."""
    name, kind = f"llvm.fma.v{one.type.count}f32", one.type
    return b.call(_declared(b, name, kind, [kind] * 3), [one, other, sum_])


def copy(b: ir.IRBuilder, to: ir.Value, source: ir.Value, count: ir.Value) -> None:
    """So many numbers from one place to another."""
    kinds = [POINTER, POINTER, INT, ir.IntType(1)]
    function = _declared(b, "llvm.memcpy.p0.p0.i64", ir.VoidType(), kinds)
    b.call(function, [to, source, b.mul(count, number(4)), ir.Constant(ir.IntType(1), 0)])


def clear(b: ir.IRBuilder, to: ir.Value, count: ir.Value) -> None:
    """So many zeros."""
    kinds = [POINTER, ir.IntType(8), INT, ir.IntType(1)]
    function = _declared(b, "llvm.memset.p0.i64", ir.VoidType(), kinds)
    b.call(function, [to, ir.Constant(ir.IntType(8), 0), b.mul(count, number(4)), ir.Constant(ir.IntType(1), 0)])


def _declared(b: ir.IRBuilder, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    known = b.module.globals.get(name)
    return known or ir.Function(b.module, ir.FunctionType(result, arguments), name)

"""How XLA calls compiled code: its foreign function interface, whose structs are read at fixed places.

They are those of jaxlib/include/xla/ffi/api/c_api.h, of 64-bit machines.
"""

from collections.abc import Callable, Sequence

from llvmlite import ir

from unet_jax.models.fast.native.code import INT, POINTER
from unet_jax.models.fast.native.geometry import NAMES, Numbers

# The interface's version, which XLA asks for.
MAJOR, MINOR = 0, 1
_INT32 = ir.IntType(32)

# Bytes from the beginning of XLA_FFI_CallFrame, …
_EXTENSION, _ARGUMENTS, _RESULTS, _ATTRIBUTES = 8, 72, 112, 160
# … XLA_FFI_Metadata_Extension, XLA_FFI_Metadata, …
_METADATA, _MAJOR, _MINOR, _TRAITS = 24, 24, 28, 32
# … XLA_FFI_Buffer and XLA_FFI_Scalar.
_DATA, _SIZES, _VALUE = 24, 40, 8


def handler(
    module: ir.Module,
    name: str,
    counts: tuple[int, int],
    write: Callable[[ir.IRBuilder, Numbers, Sequence[ir.Value]], None],
) -> None:
    """Writes a function that XLA can call.

    Args:
        module: to write it to.
        name: of the function.
        counts: of arrays that are given, and of those that are made.
        write: writes what it does, of the integers that it is given by name and the addresses of all arrays.
    """
    function = ir.Function(module, ir.FunctionType(POINTER, [POINTER]), name)
    [frame] = function.args
    b = ir.IRBuilder(function.append_basic_block())
    nothing = ir.Constant(POINTER, None)
    extension = _pointer(b, frame, _EXTENSION)
    with b.if_then(b.icmp_unsigned("!=", extension, nothing)):
        metadata = _pointer(b, extension, _METADATA)
        for value, place in ((MAJOR, _MAJOR), (MINOR, _MINOR), (0, _TRAITS)):
            b.store(ir.Constant(_INT32, value), _further(b, metadata, place))
        b.ret(nothing)
    arrays = []
    for place, count in zip((_ARGUMENTS, _RESULTS), counts, strict=True):
        table = _pointer(b, frame, place)
        arrays += [_pointer(b, _pointer(b, table, 8 * i), _DATA) for i in range(count)]
    attributes = _pointer(b, frame, _ATTRIBUTES)
    scalars = {name: _pointer(b, _pointer(b, attributes, 8 * i), _VALUE) for i, name in enumerate(NAMES)}
    numbers = {name: b.load(place, typ=INT) for name, place in scalars.items()}
    first = _pointer(b, _pointer(b, frame, _ARGUMENTS), 0)
    groups = b.load(_pointer(b, first, _SIZES), typ=INT)
    write(b, Numbers(groups=groups, **numbers), arrays)
    b.ret(nothing)


def _further(b: ir.IRBuilder, pointer: ir.Value, count: int) -> ir.Value:
    return b.gep(pointer, [ir.Constant(INT, count)], source_etype=ir.IntType(8))


def _pointer(b: ir.IRBuilder, pointer: ir.Value, place: int) -> ir.Value:
    return b.load(_further(b, pointer, place), typ=POINTER)

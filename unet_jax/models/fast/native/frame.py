"""How XLA calls compiled code, and how that shares its work among XLA's threads: XLA's foreign function interface.

Its structs are read at the places that jaxlib/include/xla/ffi/api/c_api.h gives them on 64-bit machines.
"""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from llvmlite import ir

from unet_jax.models.fast.native import code
from unet_jax.models.fast.native.code import INT, POINTER
from unet_jax.models.fast.native.geometry import NAMES, Numbers

Writer = Callable[[ir.IRBuilder, Numbers, Sequence[ir.Value]], None]

# The interface's version, which XLA asks for.
MAJOR, MINOR = 0, 1

# Bytes from the beginning of XLA_FFI_CallFrame, …
_EXTENSION, _API, _CONTEXT, _ARGUMENTS, _RESULTS, _ATTRIBUTES, _FUTURE = 8, 16, 24, 72, 112, 160, 168
# … XLA_FFI_Metadata_Extension, XLA_FFI_Metadata, …
_METADATA, _MAJOR, _MINOR, _TRAITS = 24, 24, 28, 32
# … XLA_FFI_Buffer, XLA_FFI_Scalar and XLA_FFI_Api, whose functions follow.
_DATA, _SIZES, _VALUE, _FUNCTIONS = 24, 40, 8, 48

_INT32 = ir.IntType(32)
_WORK = ir.FunctionType(ir.VoidType(), [POINTER])

# Two arrays are given and two made; the last one made is for notes: …
ARRAYS = 4
# … parts of the work that are not done yet, XLA's future and its table of functions, the arrays and all integers; …
_LEFT, _ITS_FUTURE, _ITS_API, _ITS_ARRAYS = 0, 8, 16, 24
_ITS_NUMBERS = _ITS_ARRAYS + 8 * ARRAYS
_TASKS = _ITS_NUMBERS + 8 * (len(NAMES) + 1)
# … and for each part where the notes are, and its number.
_TASK = 16


def notes(parts: int) -> int:
    """Numbers of float32 that the array of notes has for each group, if a group's work has so many parts."""
    return (_TASKS + _TASK * parts) // 4


def handler(module: ir.Module, name: str, write: Writer) -> None:
    """Writes a function that XLA can call, which returns when all is done or under way in XLA's threads.

    Args:
        module: to write it to.
        name: of the function.
        write: writes what it does in one part of a group's work, of integers by name, among them the group's number,
            `group`, and the part's, `part`, and the addresses of all arrays but the last.
    """
    task = _task(module, f"{name}_task", write)
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
    noted, parts = _note(b, frame)
    tasks = _further(b, noted, _TASKS)
    with code.counting(b, parts) as part:
        its_task = b.gep(tasks, [code.product(b, part, _TASK)], source_etype=ir.IntType(8))
        b.store(noted, its_task)
        b.store(part, _further(b, its_task, 8))
    with b.if_then(b.icmp_signed(">", parts, code.number(1))):
        _schedule(b, frame, noted, tasks, task, parts)
    b.call(task, [tasks])
    b.ret(nothing)


def _note(b: ir.IRBuilder, frame: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Writes down what the work needs to know; where that is, and how many parts there are."""
    tables = [_pointer(b, frame, place) for place in (_ARGUMENTS, _RESULTS)]
    buffers = [_pointer(b, table, 8 * i) for table in tables for i in (0, 1)] + [_pointer(b, tables[1], 16)]
    *arrays, noted = [_pointer(b, buffer, _DATA) for buffer in buffers]
    groups = b.load(_pointer(b, buffers[0], _SIZES), typ=INT)
    attributes = _pointer(b, frame, _ATTRIBUTES)
    values = [b.load(_pointer(b, _pointer(b, attributes, 8 * i), _VALUE), typ=INT) for i in range(len(NAMES))]
    parts = b.mul(groups, values[NAMES.index("parts")])
    kept = {_LEFT: parts, _ITS_FUTURE: ir.Constant(POINTER, None), _ITS_API: _pointer(b, frame, _API)}
    kept |= {_ITS_ARRAYS + 8 * i: array for i, array in enumerate(arrays)}
    kept |= {_ITS_NUMBERS + 8 * i: value for i, value in enumerate([*values, groups])}
    for place, value in kept.items():
        b.store(value, _further(b, noted, place))
    return noted, parts


def _schedule(
    b: ir.IRBuilder, frame: ir.Value, noted: ir.Value, tasks: ir.Value, task: ir.Function, parts: ir.Value
) -> None:
    """Hands all parts but the first to XLA's threads, and promises XLA to say when all are done."""
    api = _pointer(b, frame, _API)
    asked = _struct(b, 3)
    _ask(b, api, "XLA_FFI_Future_Create", asked)
    future = _pointer(b, asked, 16)
    b.store(future, _further(b, noted, _ITS_FUTURE))
    b.store(future, _further(b, frame, _FUTURE))
    asked = _struct(b, 5)
    with code.counting(b, parts, start=1) as part:
        its_task = b.gep(tasks, [code.product(b, part, _TASK)], source_etype=ir.IntType(8))
        for place, value in ((16, _pointer(b, frame, _CONTEXT)), (24, task), (32, its_task)):
            b.store(value, _further(b, asked, place))
        error = _ask(b, api, "XLA_FFI_ThreadPool_Schedule", asked)
        # Where there are no threads, it is done here; the error that says so is XLA's few bytes, and stays.
        with b.if_then(b.icmp_unsigned("!=", error, ir.Constant(POINTER, None))):
            b.call(task, [its_task])


def _task(module: ir.Module, name: str, write: Writer) -> ir.Function:
    """Writes the function that does one part, and after the last one tells XLA."""
    function = ir.Function(module, _WORK, name)
    [own] = function.args
    b = ir.IRBuilder(function.append_basic_block())
    noted, number = _pointer(b, own, 0), b.load(_further(b, own, 8), typ=INT)
    names = [*NAMES, "groups"]
    numbers = {name: b.load(_further(b, noted, _ITS_NUMBERS + 8 * i), typ=INT) for i, name in enumerate(names)}
    own_numbers = {"group": b.sdiv(number, numbers["parts"]), "part": b.srem(number, numbers["parts"])}
    arrays = [_pointer(b, noted, _ITS_ARRAYS + 8 * i) for i in range(ARRAYS)]
    write(b, Numbers(**numbers, **own_numbers), arrays)
    # Read before it is said that this part is done: after the last one, the notes are no more.
    future, api = _pointer(b, noted, _ITS_FUTURE), _pointer(b, noted, _ITS_API)
    left = b.atomic_rmw("sub", _further(b, noted, _LEFT), code.number(1), "seq_cst")
    is_promised = b.icmp_unsigned("!=", future, ir.Constant(POINTER, None))
    with b.if_then(b.and_(is_promised, b.icmp_signed("==", left, code.number(1)))):
        asked = _struct(b, 3)
        b.store(future, _further(b, asked, 16))
        _ask(b, api, "XLA_FFI_Future_SetAvailable", asked)
    b.ret_void()
    return function


def _struct(b: ir.IRBuilder, words: int) -> ir.Value:
    """One of XLA's structs of arguments: its size, no extension, and words to be filled in."""
    with b.goto_entry_block():
        # By way of an integer, as llvmlite keeps a pointer's type.
        struct = b.inttoptr(b.ptrtoint(b.alloca(ir.ArrayType(INT, words)), INT), POINTER)
    for word in range(words):
        b.store(code.number(8 * words if word == 0 else 0), _further(b, struct, 8 * word))
    return struct


def _ask(b: ir.IRBuilder, api: ir.Value, name: str, struct: ir.Value) -> ir.Value:
    """Calls one of XLA's functions; an error, or null."""
    address = b.load(_further(b, api, _FUNCTIONS + 8 * _functions().index(name)), typ=INT)
    return b.call(b.inttoptr(address, ir.FunctionType(POINTER, [POINTER]).as_pointer()), [struct])


@functools.cache
def _functions() -> list[str]:
    """XLA's functions in the order of their table, by the header of the jaxlib that runs."""
    header = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    return re.findall(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\);", header)


def _further(b: ir.IRBuilder, pointer: ir.Value, count: int) -> ir.Value:
    return b.gep(pointer, [code.number(count)], source_etype=ir.IntType(8))


def _pointer(b: ir.IRBuilder, pointer: ir.Value, place: int) -> ir.Value:
    return b.load(_further(b, pointer, place), typ=POINTER)

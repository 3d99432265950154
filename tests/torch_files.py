"""Writes files in the format of torch.save, without PyTorch; PyTorch reads what this writes."""

import dataclasses
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Call:
    """What a pickle calls when it is read."""

    module: str
    name: str
    arguments: tuple


def write(path: Path, content: Any) -> None:
    """Writes containers, numbers, texts and arrays of float32, as tensors."""
    storages: list[np.ndarray] = []
    pickled = b"\x80\x02" + _encode(content, storages) + b"."
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", pickled)
        archive.writestr(f"{path.stem}/byteorder", "little")
        for number, array in enumerate(storages):
            archive.writestr(f"{path.stem}/data/{number}", array.tobytes())
        archive.writestr(f"{path.stem}/version", "3\n")


def _encode(value: Any, storages: list[np.ndarray]) -> bytes:
    def several(values) -> bytes:
        return b"(" + b"".join(_encode(each, storages) for each in values)

    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"J" + struct.pack("<i", value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return several(value) + b"t"
        case list():
            return b"]" + several(value) + b"e"
        case dict():
            return b"}" + several(each for pair in value.items() for each in pair) + b"u"
        case Call():
            return f"c{value.module}\n{value.name}\n".encode() + _encode(value.arguments, storages) + b"R"
        case np.ndarray():
            return _tensor(np.ascontiguousarray(value, np.float32), storages)
    raise TypeError(type(value))


def _tensor(array: np.ndarray, storages: list[np.ndarray]) -> bytes:
    storages.append(array)
    record = b"(" + _encode("storage", storages) + b"ctorch\nFloatStorage\n"
    record += b"".join(_encode(each, storages) for each in (str(len(storages) - 1), "cpu", array.size)) + b"tQ"
    strides = tuple(stride // array.itemsize for stride in array.strides)
    rest = (0, array.shape, strides, False, Call("collections", "OrderedDict", ()))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + record + b"".join(_encode(each, storages) for each in rest) + b"tR"

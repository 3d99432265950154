"""Memory-mapped arrays on their way to another process: files' names travel, not pixels."""

import dataclasses
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

Array = Shaped[np.ndarray, "..."]


@dataclasses.dataclass(frozen=True)
class ByName:
    """Arrays on their way to another process of this machine; of memory maps only the files' names travel.

    Attributes:
        files: that are mapped.
        arrays: (position in files, offset, type, shape) of a mapped array; others as they are.
    """

    files: list[str]
    arrays: list[tuple[int, int, str, tuple[int, ...]] | Array]


def by_name(arrays: Sequence[Array]) -> ByName:
    """Makes arrays ready to travel: see `ByName`."""
    files: dict[str, int] = {}
    travelling = []
    for array in arrays:
        mapped = _map_below(array)
        if mapped is None or not array.flags.c_contiguous:
            travelling.append(np.asarray(array))
            continue
        offset = mapped.offset + _address(array) - _address(mapped)
        position = files.setdefault(str(mapped.filename), len(files))
        travelling.append((position, offset, array.dtype.str, array.shape))
    return ByName(list(files), travelling)


def arrived(travelled: ByName) -> list[Array]:
    """The same arrays, in the process that they travelled to."""
    maps = [np.memmap(name, np.uint8, "r") for name in travelled.files]

    def opened(one: tuple[int, int, str, tuple[int, ...]] | Array) -> Array:
        if isinstance(one, np.ndarray):
            return one
        position, offset, dtype, shape = one
        return np.ndarray(shape, dtype, maps[position], offset)

    return [opened(one) for one in travelled.arrays]


def _map_below(array: Any) -> np.memmap | None:
    """The memory map of a file that an array is a view of, or None."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):
            return array if array.filename else None
        array = array.base
    return None


def _address(array: Array) -> int:
    return array.__array_interface__["data"][0]

"""Arrays and facts in one file, with checksums; the arrays come back as memory maps.

The first line is the SHA-256 of the second; the second is JSON: the facts, and of each array its type, shape, place and
SHA-256. The arrays follow, each at a multiple of 64 bytes.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from unet_jax.errors import DamageError
from unet_jax.files import write_parts

ALIGNMENT = 64
# Read at a time: fits a core's cache.
STEP_BYTES = 2**20

Array = Shaped[np.ndarray, "..."]


@dataclasses.dataclass(frozen=True)
class Place:
    """An array in a file.

    Attributes:
        dtype: numpy's name of the type, byte order included.
        shape: of the array.
        offset: of its first byte in the file.
        sha256: of its bytes, in hexadecimal.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    sha256: str

    @property
    def nbytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclasses.dataclass(frozen=True)
class Stored:
    """What a file holds. It keeps nothing open.

    Attributes:
        path: of the file.
        facts: whatever was stored beside the arrays.
        places: of the arrays, by name.
    """

    path: Path
    facts: dict[str, Any]
    places: dict[str, Place]

    def open(self, name: str) -> Array:
        """A read-only memory map of an array, which is open as long as it is referred to."""
        place = self.places[name]
        if not place.nbytes:
            return np.zeros(place.shape, place.dtype)
        return np.memmap(self.path, place.dtype, "r", place.offset, place.shape)


def write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> Stored:
    """Stores facts, which JSON can hold, and arrays; a reader finds the whole file or none.

    Raises:
        StorageError: the disk is full, read-only or failing.
    """
    parts = {
        name: memoryview(np.ascontiguousarray(array)).cast("B") if array.size else b"" for name, array in arrays.items()
    }
    sizes = {name: array.nbytes for name, array in arrays.items()}
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += size + -size % ALIGNMENT
    # Offsets from the end of the header, whose own length they would change.
    places = {
        name: (array.dtype.str, array.shape, offsets[name], hashlib.sha256(parts[name]).hexdigest())
        for name, array in arrays.items()
    }
    line = json.dumps({"facts": facts, "arrays": places}, allow_nan=False).encode()
    head = hashlib.sha256(line).hexdigest().encode() + b"\n" + line + b"\n"
    pieces = [head, bytes(-len(head) % ALIGNMENT)]
    for name, part in parts.items():
        pieces += [part, bytes(-sizes[name] % ALIGNMENT)]
    write_parts(path, pieces)
    return read(path)


def read(path: Path) -> Stored:
    """The facts of a file, and where its arrays are.

    Raises:
        DamageError: its header is not what was written.
    """
    with open(path, "rb") as file:
        digest, line = file.readline(), file.readline()
        start = file.tell()
    if digest.strip() != hashlib.sha256(line.rstrip(b"\n")).hexdigest().encode():
        raise DamageError(f"{path} is damaged: delete it, it is made again.")
    content = json.loads(line)
    start += -start % ALIGNMENT
    places = {
        name: Place(dtype, tuple(shape), start + offset, sha256)
        for name, (dtype, shape, offset, sha256) in content["arrays"].items()
    }
    return Stored(path, content["facts"], places)


def is_whole(stored: Stored) -> bool:
    """Whether every array is what was written.

    Reads rather than maps: an error of the disk is then an OSError, where a map would end the process.
    """
    buffer = memoryview(bytearray(STEP_BYTES))
    with open(stored.path, "rb", buffering=0) as file:
        return all(_digest(file, place, buffer) == place.sha256 for place in stored.places.values())


def _digest(file, place: Place, buffer: memoryview) -> str | None:
    """The digest of an array on disk; None where the file ends before."""
    digest, left = hashlib.sha256(), place.nbytes
    file.seek(place.offset)
    while left:
        count = file.readinto(buffer[: min(left, STEP_BYTES)])
        if not count:
            return None
        digest.update(buffer[:count])
        left -= count
    return digest.hexdigest()

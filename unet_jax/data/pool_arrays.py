"""An array as bytes of a pool, padded with zeros to a multiple of 64, and the digest over them."""

import hashlib
import math
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped

ALIGNMENT = 64
# Booleans, signed and unsigned integers, floating point: types that any bytes are values of.
KINDS = "biuf"

Array = Shaped[np.ndarray, "..."]


def size(array: Array) -> int:
    """How many bytes it takes, with its padding."""
    return array.nbytes + len(_padding(array))


def write(file: BinaryIO, array: Array) -> None:
    """Writes an array where the file is."""
    file.write(_bytes(array))
    file.write(_padding(array))


def digest(array: Array) -> str:
    """The SHA-256 over type, shape, values and padding, in hexadecimal."""
    found = _begun(array.dtype.str, array.shape)
    found.update(_bytes(array))
    found.update(_padding(array))
    return found.hexdigest()


def digest_on_disk(file: BinaryIO, offset: int, dtype: str, shape: tuple[int, ...], buffer: memoryview) -> str | None:
    """The digest of what is at an offset, read as an array of this type and shape; None where the file ends before.

    Args:
        file: a pool.
        offset: of the array's first byte.
        dtype: numpy's name of the type.
        shape: of the array.
        buffer: what is read at a time.
    """
    found = _begun(dtype, shape)
    left = math.prod(shape) * np.dtype(dtype).itemsize
    left += -left % ALIGNMENT
    file.seek(offset)
    while left:
        count = file.readinto(buffer[: min(left, len(buffer))])
        if not count:
            return None
        found.update(buffer[:count])
        left -= count
    return found.hexdigest()


def _begun(dtype: str, shape: tuple[int, ...]) -> "hashlib._Hash":
    return hashlib.sha256(f"{dtype} {list(shape)}\n".encode())


def _bytes(array: Array) -> memoryview:
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _padding(array: Array) -> bytes:
    return bytes(-array.nbytes % ALIGNMENT)

"""The index of a folder of pools: which arrays lie where, and what each must be.

`index.jsonl` has the SHA-256 of all that follows in its first line, and then a record a line.
"""

import dataclasses
import hashlib
import json
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unet_jax.data.pool_arrays import KINDS
from unet_jax.errors import DamageError, InputError

NAME = "index.jsonl"


class Place(NamedTuple):
    """Where an array is stored, and what it must be.

    Attributes:
        pool: the pool's number.
        offset: of its first byte in the pool.
        dtype: numpy's name of the type, byte order included, such as "<f4".
        shape: of the array.
        sha256: over type, shape, bytes and padding, in hexadecimal.
    """

    pool: int
    offset: int
    dtype: str
    shape: tuple[int, ...]
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A line of the index.

    Attributes:
        facts: what was stored beside the arrays.
        places: by the arrays' names; None where there is no such array.
    """

    facts: dict[str, Any]
    places: dict[str, Place | None]


def read(folder: Path) -> list[Record]:
    """The records of a folder, in the order in which they were written.

    Raises:
        DamageError: the index is missing or not as it was written.
        InputError: it is not a file.
    """
    path = folder / NAME
    try:
        content = checked(path).read_bytes()
    except FileNotFoundError:
        raise DamageError(f"{path}: the index is missing") from None
    end = content.find(b"\n") + 1
    if content[:end] != _head(content[end:]):
        raise DamageError(f"{path}: the index is damaged")
    try:
        return [_record(line) for line in content[end:].splitlines()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamageError(f"{path}: the index is not of this layout ({error!r})") from error


def content_of(records: Sequence[Record]) -> bytes:
    """What an index of these records holds; their facts must be what JSON can hold."""
    body = "".join(_line(record) for record in records).encode()
    return _head(body) + body


def numbers(records: Iterable[Record]) -> set[int]:
    """Of the pools that hold the records."""
    return {place.pool for record in records for place in record.places.values() if place}


def checked(path: Path) -> Path:
    """The path itself, of a file: opening a pipe could wait for ever, and a link may lead anywhere."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise InputError(f"{path}: is a link, folder or pipe, not a file: delete {path.parent}, which is made again.")
    return path


def _head(body: bytes) -> bytes:
    return json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n"


def _line(record: Record) -> str:
    return json.dumps({"facts": record.facts, "arrays": record.places}, allow_nan=False) + "\n"


def _record(line: bytes) -> Record:
    content = json.loads(line)
    return Record(content["facts"], {name: place and _place(*place) for name, place in content["arrays"].items()})


def _place(pool: int, offset: int, dtype: str, shape: list[int], sha256: str) -> Place:
    if np.dtype(dtype).kind not in KINDS or min(pool, offset, *shape) < 0:
        raise ValueError(f"{dtype} {shape} at {offset}")
    return Place(pool, offset, dtype, tuple(shape), sha256)

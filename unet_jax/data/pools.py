"""Pools: many arrays in few files, each array with a digest of its own, opened as read-only memory maps.

A folder holds pools, `pool-0000.bin` and so on, and an index, `index.jsonl`. A pool is array after array, each padded
with zeros to a multiple of 64 bytes. The index's first line is the SHA-256 of the rest; each other line is one record:
facts about what is stored, and for each of its arrays the pool, offset, type, shape and SHA-256. That digest covers
type, shape, values and padding, so that no byte of a folder can change unnoticed.

    pools.write(folder, entries)             # into an empty folder; rename it when this returns
    records = pools.read_index(folder)
    positions = pools.damaged(folder, records, known)
    pools.restore(folder, records[position], arrays)
    arrays = pools.open_arrays(folder, records)

A map keeps its file open: 1 TB of arrays takes 500 open files and as many maps, whatever the number of arrays. What the
system answers instead of reading is raised as the OSError that it is; only other bytes are damage.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Shaped

from unet_jax.data import verified
from unet_jax.data.threads import in_threads
from unet_jax.data.verified import Verified
from unet_jax.errors import DamageError, InputError

INDEX = "index.jsonl"
# No pool grows beyond this, unless one entry alone does.
POOL_BYTES = 2**31
ALIGNMENT = 64
# Arrays that are verified by one thread, in one go.
GROUP_BYTES = 2**26
# Read at a time: fits a core's cache.
STEP_BYTES = 2**20
# Booleans, signed and unsigned integers, floating point: types that any bytes are values of.
KINDS = "biuf"

Array = Shaped[np.ndarray, "..."]


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


def write(folder: Path, entries: Iterable[tuple[Mapping[str, Any], Mapping[str, Array | None]]]) -> None:
    """Stores entries in a folder, in their order, and flushes them to the disk.

    Where this is cut short, the folder has no index. No more than one entry is held in memory.

    Args:
        folder: exists and is empty.
        entries: facts, which JSON can hold, and arrays by name; no array is empty.
    """
    entries = iter(entries)
    entry = next(entries, None)
    lines: list[str] = []
    pool = 0
    while entry is not None:
        with open(_pool_path(folder, pool), "xb") as file:
            while entry is not None and (file.tell() == 0 or file.tell() + _size(entry[1]) <= POOL_BYTES):
                lines.append(_line(_stored(file, pool, *entry)))
                entry = None  # not held while the next one is made
                entry = next(entries, None)
            _flush(file)
        pool += 1
    body = "".join(lines).encode()
    with open(folder / INDEX, "xb") as file:
        file.write(_head(body) + body)
        _flush(file)


def _stored(file: BinaryIO, pool: int, facts: Mapping[str, Any], arrays: Mapping[str, Array | None]) -> Record:
    places = {name: None if array is None else _append(file, pool, array) for name, array in arrays.items()}
    return Record(dict(facts), places)


def _size(arrays: Mapping[str, Array | None]) -> int:
    return sum(array.nbytes + len(_padding(array)) for array in arrays.values() if array is not None)


def _append(file: BinaryIO, pool: int, array: Array) -> Place:
    if array.dtype.kind not in KINDS:
        raise TypeError(f"arrays of {array.dtype} cannot be stored")
    offset = file.tell()
    array = np.asarray(array, order="C")
    _write_array(file, array)
    return Place(pool, offset, array.dtype.str, array.shape, _digest(array))


def _write_array(file: BinaryIO, array: Array) -> None:
    file.write(_bytes(array))
    file.write(_padding(array))


def read_index(folder: Path) -> list[Record]:
    """The records of a folder, in the order in which they were written.

    Raises:
        DamageError: the index is missing or not as it was written.
        InputError: it is not a file.
    """
    path = folder / INDEX
    try:
        content = _checked(path).read_bytes()
    except FileNotFoundError:
        raise DamageError(f"{path}: the index is missing") from None
    end = content.find(b"\n") + 1
    if content[:end] != _head(content[end:]):
        raise DamageError(f"{path}: the index is damaged")
    try:
        return [_record(line) for line in content[end:].splitlines()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamageError(f"{path}: the index is not of this layout ({error!r})") from error


def damaged(folder: Path, records: Sequence[Record], known: Verified | None = None) -> list[int]:
    """Reads every array, and returns the positions of the records of which one is not what was written.

    Reads rather than maps: an error of the disk is then an OSError, where a map would end the process.

    Args:
        folder: with pools.
        records: of its index.
        known: of the folder above. Pools that are noted there, beside the same index, are not read; those that are
            found whole are noted. None reads all.

    Raises:
        InputError: a pool is not a file.
    """
    names = {number: f"{folder.name}/{_pool_name(number)}" for number in _numbers(records)}
    index = f"{folder.name}/{INDEX}"
    stamps = {name: verified.stamp(folder.parent / name) for name in (index, *names.values())} if known else {}
    trusted = known is not None and known.get(index, stamps[index]) is not None
    unread = {number for number, name in names.items() if not trusted or known.get(name, stamps[name]) is None}
    stored = sorted(
        (
            (place, position)
            for position, record in enumerate(records)
            for place in record.places.values()
            if place and place.pool in unread
        ),
        key=lambda one: (one[0].pool, one[0].offset),
    )
    groups = itertools.groupby(stored, key=lambda one: (one[0].pool, one[0].offset // GROUP_BYTES))

    def damaged_of(group: list[tuple[Place, int]]) -> list[int]:
        whole = _are_whole(folder, [place for place, _ in group])
        return [position for (_, position), is_whole in zip(group, whole, strict=True) if not is_whole]

    found = in_threads(damaged_of, [list(group) for _, group in groups], "verifying", "part")
    positions = sorted({position for positions in found for position in positions})
    if known is not None:
        whole = unread - _numbers(records[position] for position in positions)
        for name in (index, *(names[number] for number in whole)):
            known.note(name, stamps[name], "whole")
    return positions


def restore(folder: Path, record: Record, arrays: Mapping[str, Array | None]) -> None:
    """Writes the arrays of a damaged record again, where they belong.

    Raises:
        DamageError: these are not the arrays that were written; nothing is changed.
        InputError: a pool is not a file.
    """
    wanted = {name: place and (place.dtype, place.shape, place.sha256) for name, place in record.places.items()}
    found = {
        name: None if array is None else (array.dtype.str, array.shape, _digest(array))
        for name, array in arrays.items()
    }
    if found != wanted:
        raise DamageError(f"{folder}: an array is damaged, and is another one when it is made again")
    for name, place in record.places.items():
        array = arrays[name]
        if place is None or array is None:
            continue
        path = _pool_path(folder, place.pool)
        with contextlib.suppress(FileNotFoundError):
            _checked(path)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666), "wb") as file:
            file.seek(place.offset)
            _write_array(file, array)
            _flush(file)


def open_arrays(folder: Path, records: Sequence[Record]) -> list[dict[str, Array | None]]:
    """The arrays of each record, by name: read-only views of the pools' memory maps. They are not verified again."""
    maps = {number: np.memmap(_pool_path(folder, number), np.uint8, "r") for number in sorted(_numbers(records))}
    return [
        {
            name: place and np.ndarray(place.shape, place.dtype, maps[place.pool], place.offset)
            for name, place in record.places.items()
        }
        for record in records
    ]


def _are_whole(folder: Path, places: Sequence[Place]) -> list[bool]:
    """Of each of these places in one pool, whether the array that is there is the one that was written."""
    path = _pool_path(folder, places[0].pool)
    buffer = memoryview(bytearray(STEP_BYTES))
    with contextlib.suppress(FileNotFoundError), open(_checked(path), "rb", buffering=0) as file:
        return [_digest_on_disk(file, place, buffer) == place.sha256 for place in places]
    return [False] * len(places)


def _digest_on_disk(file: BinaryIO, place: Place, buffer: memoryview) -> str | None:
    """The digest of what is at a place; None where the file ends before."""
    digest = _begun(place.dtype, place.shape)
    left = math.prod(place.shape) * np.dtype(place.dtype).itemsize
    left += -left % ALIGNMENT
    file.seek(place.offset)
    while left:
        count = file.readinto(buffer[: min(left, STEP_BYTES)])
        if not count:
            return None
        digest.update(buffer[:count])
        left -= count
    return digest.hexdigest()


def _digest(array: Array) -> str:
    digest = _begun(array.dtype.str, array.shape)
    digest.update(_bytes(array))
    digest.update(_padding(array))
    return digest.hexdigest()


def _begun(dtype: str, shape: tuple[int, ...]) -> "hashlib._Hash":
    return hashlib.sha256(f"{dtype} {list(shape)}\n".encode())


def _bytes(array: Array) -> memoryview:
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _padding(array: Array) -> bytes:
    return bytes(-array.nbytes % ALIGNMENT)


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


def _numbers(records: Iterable[Record]) -> set[int]:
    """Of the pools that hold the records."""
    return {place.pool for record in records for place in record.places.values() if place}


def _pool_path(folder: Path, number: int) -> Path:
    return folder / _pool_name(number)


def _pool_name(number: int) -> str:
    return f"pool-{number:04d}.bin"


def _checked(path: Path) -> Path:
    """The path itself, of a file: opening a pipe could wait for ever, and a link may lead anywhere."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise InputError(f"{path}: is a link, folder or pipe, not a file: delete {path.parent}, which is made again.")
    return path


def _flush(file: BinaryIO) -> None:
    file.flush()
    # Some file systems find out only now that there is no room.
    os.fsync(file.fileno())

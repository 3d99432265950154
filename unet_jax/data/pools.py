"""Pools: many arrays in few files, each array with a digest of its own, opened as read-only memory maps.

A folder holds pools, `pool-0000.bin` and so on, and an index. A pool is array after array (`pool_arrays`); the index
has a record a line (`pool_index`): facts about what is stored, and of each array the pool, offset, type, shape and
SHA-256. That digest covers type, shape, values and padding, so that no byte of a folder can change unnoticed.

    pools.write(folder, entries)             # into an empty folder; rename it when this returns
    records = pool_index.read(folder)
    positions = pools.damaged(folder, records, known)
    pools.restore(folder, records[position], arrays)
    arrays = pools.open_arrays(folder, records)

A map keeps its file open: 1 TB of arrays takes 500 open files and as many maps, whatever the number of arrays. What the
system answers instead of reading is raised as the OSError that it is; only other bytes are damage.
"""

import contextlib
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unet_jax.data import pool_arrays, pool_index, verified
from unet_jax.data.pool_arrays import KINDS, Array
from unet_jax.data.pool_index import Place, Record
from unet_jax.data.threads import in_threads
from unet_jax.data.verified import Verified
from unet_jax.errors import DamageError

# No pool grows beyond this, unless one entry alone does.
POOL_BYTES = 2**31
# Arrays that are verified by one thread, in one go.
GROUP_BYTES = 2**26
# Read at a time: fits a core's cache.
STEP_BYTES = 2**20


def write(folder: Path, entries: Iterable[tuple[Mapping[str, Any], Mapping[str, Array | None]]]) -> None:
    """Stores entries in a folder, in their order, and flushes them to the disk.

    Where this is cut short, the folder has no index. No more than one entry is held in memory.

    Args:
        folder: exists and is empty.
        entries: facts, which JSON can hold, and arrays by name; no array is empty.
    """
    entries = iter(entries)
    entry = next(entries, None)
    records: list[Record] = []
    pool = 0
    while entry is not None:
        with open(_pool_path(folder, pool), "xb") as file:
            while entry is not None and (file.tell() == 0 or file.tell() + _size(entry[1]) <= POOL_BYTES):
                records.append(_stored(file, pool, *entry))
                entry = None  # not held while the next one is made
                entry = next(entries, None)
            _flush(file)
        pool += 1
    with open(folder / pool_index.NAME, "xb") as file:
        file.write(pool_index.content_of(records))
        _flush(file)


def _stored(file: BinaryIO, pool: int, facts: Mapping[str, Any], arrays: Mapping[str, Array | None]) -> Record:
    places = {name: None if array is None else _append(file, pool, array) for name, array in arrays.items()}
    return Record(dict(facts), places)


def _size(arrays: Mapping[str, Array | None]) -> int:
    return sum(pool_arrays.size(array) for array in arrays.values() if array is not None)


def _append(file: BinaryIO, pool: int, array: Array) -> Place:
    if array.dtype.kind not in KINDS:
        raise TypeError(f"arrays of {array.dtype} cannot be stored")
    offset = file.tell()
    array = np.asarray(array, order="C")
    pool_arrays.write(file, array)
    return Place(pool, offset, array.dtype.str, array.shape, pool_arrays.digest(array))


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
    names = {number: f"{folder.name}/{_pool_name(number)}" for number in pool_index.numbers(records)}
    index = f"{folder.name}/{pool_index.NAME}"
    stamps = {name: verified.stamp(folder.parent / name) for name in (index, *names.values())} if known else {}
    trusted = known is not None and known.get(index, stamps[index]) is not None
    unread = {number for number, name in names.items() if not trusted or known.get(name, stamps[name]) is None}
    positions = _damaged_in(folder, records, unread)
    if known is not None:
        whole = unread - pool_index.numbers(records[position] for position in positions)
        for name in (index, *(names[number] for number in whole)):
            known.note(name, stamps[name], "whole")
    return positions


def _damaged_in(folder: Path, records: Sequence[Record], pools: set[int]) -> list[int]:
    """The positions of the records with a damaged array in one of these pools."""
    stored = sorted(
        (
            (place, position)
            for position, record in enumerate(records)
            for place in record.places.values()
            if place and place.pool in pools
        ),
        key=lambda one: (one[0].pool, one[0].offset),
    )
    groups = itertools.groupby(stored, key=lambda one: (one[0].pool, one[0].offset // GROUP_BYTES))

    def damaged_of(group: list[tuple[Place, int]]) -> list[int]:
        whole = _are_whole(folder, [place for place, _ in group])
        return [position for (_, position), is_whole in zip(group, whole, strict=True) if not is_whole]

    found = in_threads(damaged_of, [list(group) for _, group in groups], "verifying", "part")
    return sorted({position for positions in found for position in positions})


def _are_whole(folder: Path, places: Sequence[Place]) -> list[bool]:
    """Of each of these places in one pool, whether the array that is there is the one that was written."""
    path = _pool_path(folder, places[0].pool)
    buffer = memoryview(bytearray(STEP_BYTES))
    with contextlib.suppress(FileNotFoundError), open(pool_index.checked(path), "rb", buffering=0) as file:
        return [
            pool_arrays.digest_on_disk(file, place.offset, place.dtype, place.shape, buffer) == place.sha256
            for place in places
        ]
    return [False] * len(places)


def restore(folder: Path, record: Record, arrays: Mapping[str, Array | None]) -> None:
    """Writes the arrays of a damaged record again, where they belong.

    Raises:
        DamageError: these are not the arrays that were written; nothing is changed.
        InputError: a pool is not a file.
    """
    wanted = {name: place and (place.dtype, place.shape, place.sha256) for name, place in record.places.items()}
    found = {
        name: None if array is None else (array.dtype.str, array.shape, pool_arrays.digest(array))
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
            pool_index.checked(path)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666), "wb") as file:
            file.seek(place.offset)
            pool_arrays.write(file, array)
            _flush(file)


def open_arrays(folder: Path, records: Sequence[Record]) -> list[dict[str, Array | None]]:
    """The arrays of each record, by name: read-only views of the pools' memory maps. They are not verified again."""
    pools = sorted(pool_index.numbers(records))
    maps = {number: np.memmap(_pool_path(folder, number), np.uint8, "r") for number in pools}
    return [
        {
            name: place and np.ndarray(place.shape, place.dtype, maps[place.pool], place.offset)
            for name, place in record.places.items()
        }
        for record in records
    ]


def _pool_path(folder: Path, number: int) -> Path:
    return folder / _pool_name(number)


def _pool_name(number: int) -> str:
    return f"pool-{number:04d}.bin"


def _flush(file: BinaryIO) -> None:
    file.flush()
    # Some file systems find out only now that there is no room.
    os.fsync(file.fileno())

"""Decode once: cases as memory-mapped arrays on disk, keyed by what is in their files."""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from unet_jax.data import pool_index, pools, verified
from unet_jax.data.case import Case, check_finite
from unet_jax.data.faults import FULL_LIST, lines_of, summary
from unet_jax.data.names import name_faults, shown
from unet_jax.data.reader import (
    CaseFiles,
    Digests,
    Reader,
    digest,
    hash_files,
    read_of,
    stamp_of,
    uncompressed_bytes,
)
from unet_jax.data.threads import in_threads
from unet_jax.data.verified import Verified
from unet_jax.errors import DamageError, InputError, OutOfMemoryError, RunError, StorageError
from unet_jax.files import FAILING, FULL, READ_ONLY

# Part of every fingerprint, and runs have theirs on record: it stays as it is, however cases are stored.
FINGERPRINTED = "one .npy for images and one for masks a case, version 1"
# How decoded cases are stored: part of their folder's name, and changed with the layout.
LAYOUT = "pools-1"


def load(
    reader: Reader | ModuleType, root: Path, cache: Path, listing: Sequence[CaseFiles] | None = None
) -> tuple[list[Case], str, Digests]:
    """The cases under a folder, decoded now or taken from the cache, and what identifies their files.

    The fingerprint is a SHA-256 over the reader's `DECODING` and every file's relative name, size and SHA-256. Decoded
    cases are stored in `<cache>/<fingerprint>.<LAYOUT>`, as `pools` describes. A call hashes the files and verifies the
    decoded arrays that changed since an earlier one did, see `verified`, and of a new cache all; what is damaged is
    decoded again, and a line on stderr says so.

    Args:
        reader: the module that knows the file format, such as `unet_jax.data.formats.lgg`.
        root: the data set's folder.
        cache: the folder for decoded cases (`config.data.cache`); made if missing.
        listing: what the reader finds in `root`, if that is known already.

    Returns:
        Cases in the reader's order, their arrays read-only views of memory maps; the fingerprint in hexadecimal; and
        the files' sizes and digests.

    Raises:
        InputError: anything is wrong with the data (every fault is listed), or the cache cannot be used.
        StorageError: the disk of the cache is full, read-only or failing.
        OutOfMemoryError: there is no memory for the maps.
    """
    listing = _with_name_faults(reader.find(root) if listing is None else listing)
    data = _DataSet(reader, root, listing, verified.read(cache, root))
    # Where nothing was decoded yet, files are read once: decoding hashes what it reads.
    files = data.hashed() if any(cache.glob(f"*.{LAYOUT}")) else None
    if files is None or not files.is_decoded(cache):
        files = _decode_all(data, cache)
    pooled = verified.read(cache, cache)
    records, files = _verified(data, cache, files, pooled)
    for known in (data.known, pooled):
        known.save()
    with _explained(cache, "read"):
        arrays = pools.open_arrays(files.folder(cache), records)
    cases = [_case(record.facts, **of_case) for record, of_case in zip(records, arrays, strict=True)]
    return cases, files.fingerprint, files.digests


def verify(
    reader: Reader | ModuleType, listing: Sequence[CaseFiles], root: Path, cache: Path, digests: Digests
) -> int | None:
    """Verifies all decoded cases of files whose digests are known; what is damaged is decoded again.

    Args:
        reader: as for `load`.
        listing: what it finds in `root`.
        root: the data set's folder.
        cache: the folder for decoded cases.
        digests: of every file of the listing.

    Returns:
        how many cases there are; None where these files were not decoded yet.

    Raises:
        RunError: as `load` raises it.
    """
    files = _Files(reader.DECODING, digests)
    if not files.is_decoded(cache):
        return None
    data = _DataSet(reader, root, listing, verified.nothing(cache, root))
    pooled = verified.nothing(cache, cache)
    records, _ = _verified(data, cache, files, pooled)
    pooled.save()
    return len(records)


@dataclasses.dataclass(frozen=True)
class _Files:
    """What the files of a data set are, and how they are decoded."""

    decoding: str
    digests: Digests

    @functools.cached_property
    def fingerprint(self) -> str:
        files = sorted((path.as_posix(), *digest) for path, digest in self.digests.items())
        text = json.dumps({"layout": FINGERPRINTED, "decoding": self.decoding, "files": files})
        return hashlib.sha256(text.encode()).hexdigest()

    def folder(self, cache: Path) -> Path:
        return cache / f"{self.fingerprint}.{LAYOUT}"

    def is_decoded(self, cache: Path) -> bool:
        with _explained(cache, "read"):
            return self.folder(cache).is_dir()


@dataclasses.dataclass(frozen=True)
class _DataSet:
    """Cases that can be decoded."""

    reader: Reader | ModuleType
    root: Path
    listing: Sequence[CaseFiles]
    known: Verified

    def hashed(self) -> _Files | None:
        """None where a fault is known already: decoding then lists it beside all others."""
        paths = [path for files in self.listing for path in (*files.images, *files.masks)]
        if any(files.faults for files in self.listing):
            return None
        digests = hash_files(self.reader, paths, self.root, self.known)
        return _Files(self.reader.DECODING, digests) if len(digests) == len(paths) else None

    def decoded(self, positions: Iterable[int] | None = None) -> Iterator[tuple[Case | None, Digests, list[str]]]:
        """Each case, or None and what is wrong with it, with the digests of the files that were read for it."""

        def decode(files: CaseFiles) -> tuple[Case | None, Digests, list[str]]:
            digests = {}

            def read(path: Path) -> bytes:
                before = stamp_of(self.reader, self.root, path)
                data = read_of(self.reader)(self.root, path)
                digests[path] = digest(data)
                self.known.note(path.as_posix(), before, digests[path][1])
                return data

            try:
                case = self.reader.decode(files, read)
                check_finite(case)
            except InputError as error:
                return None, digests, lines_of(error)
            return case, digests, []

        chosen = self.listing if positions is None else [self.listing[position] for position in positions]
        return in_threads(decode, chosen, "decoding", weight=self._bytes)

    def _bytes(self, files: CaseFiles) -> int:
        """Of a case's images, decompressed; as far as their files tell it."""
        return sum(uncompressed_bytes(self.root / path) for path in files.images)


def _with_name_faults(listing: Sequence[CaseFiles]) -> list[CaseFiles]:
    found = name_faults([(files.name, files.patient) for files in listing])
    return [
        dataclasses.replace(files, faults=(*files.faults, *faults))
        for files, faults in zip(listing, found, strict=True)
    ]


def _verified(data: _DataSet, cache: Path, files: _Files, known: Verified) -> tuple[list[pool_index.Record], _Files]:
    """The records of a folder of decoded cases, once all of it is as it was written; and what its files are.

    Pools in `known` are taken to be.

    Damaged cases are decoded again and written where they belong. Where the index is damaged, or a case decodes to
    other pixels than before, all are decoded again, and the files are those that were read for it.
    """
    folder = files.folder(cache)
    try:
        with _explained(cache, "read"):
            records = pool_index.read(folder)
            damaged = pools.damaged(folder, records, known)
        if damaged:
            _restore(data, folder, records, damaged)
        return records, files
    except DamageError as error:
        _warn(f"{error}: all {len(data.listing):,} cases are decoded again.")
    files = _decode_all(data, cache, damaged=folder)
    with _explained(cache, "read"):
        return pool_index.read(files.folder(cache)), files


def _restore(data: _DataSet, folder: Path, records: Sequence[pool_index.Record], damaged: Sequence[int]) -> None:
    """Decodes damaged cases again and writes them where their records say.

    Raises:
        DamageError: a case decodes to other pixels than before.
    """
    with _explained(folder.parent, "written"), contextlib.closing(data.decoded(damaged)) as decoded:
        for position, (case, _, faults) in zip(damaged, decoded, strict=True):
            if case is None:
                raise InputError("\n".join(faults))
            pools.restore(folder, records[position], _arrays(case))
    names = ", ".join(shown(data.listing[position].name) for position in damaged[:3])
    more = ", …" if len(damaged) > 3 else ""
    _warn(f"{folder}: {len(damaged):,} decoded cases were damaged and were decoded again ({names}{more}).")


def _decode_all(data: _DataSet, cache: Path, damaged: Path | None = None) -> _Files:
    """Writes every case into a folder beside its final place, then renames it: what has a final name is whole.

    Args:
        data: what to decode.
        cache: the folder for decoded cases.
        damaged: a folder to remove first, if no other process has made it whole meanwhile.

    Returns:
        the files as they were when they were decoded, whatever happened to them since they were hashed.

    Raises:
        InputError: every fault of every case, a line each.
    """
    digests: Digests = {}
    faults = []

    def entries() -> Iterator[tuple[dict, dict]]:
        for case, read, found in data.decoded():
            digests.update(read)
            if case is None:
                faults.extend(found)
            elif not faults:
                yield {"name": case.name, "patient": case.patient, "spacing": case.spacing}, _arrays(case)
            del case  # not held while the next one is decoded

    with _explained(cache, "written"):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unfinished-", dir=cache) as unfinished:
            whole = Path(unfinished, "cases")
            whole.mkdir()
            pools.write(whole, entries())
            if faults:
                raise InputError(summary(faults, cache / FULL_LIST))
            files = _Files(data.reader.DECODING, digests)
            folder = files.folder(cache)
            if damaged is not None and not _is_whole(damaged):
                with contextlib.suppress(FileNotFoundError):
                    damaged.rename(Path(unfinished, "damaged"))
            try:
                whole.rename(folder)
            except OSError:
                # Another process may have finished the same cases first; its folder is as good.
                if not folder.is_dir():
                    raise
    return files


def _is_whole(folder: Path) -> bool:
    try:
        return not pools.damaged(folder, pool_index.read(folder))
    except DamageError:
        return False


def _arrays(case: Case) -> dict[str, np.ndarray | None]:
    return {"image": case.image, "mask": case.mask}


def _case(facts: Mapping[str, Any], image: np.ndarray, mask: np.ndarray | None) -> Case:
    spacing = None if facts["spacing"] is None else tuple(facts["spacing"])
    return Case(facts["name"], facts["patient"], image, mask, spacing)


@contextlib.contextmanager
def _explained(cache: Path, verb: str) -> Iterator[None]:
    """Turns what the system says when decoded cases are "read" or "written" into a line with its remedy."""
    try:
        yield
    except OSError as error:
        what, number = os.fspath(error.filename or cache), error.errno
        kind: type[RunError] = InputError
        if number in (errno.EMFILE, errno.ENFILE):
            remedy = "close other programs, or allow more open files (ulimit -n)"
        elif number == errno.ENOMEM:
            kind, remedy = OutOfMemoryError, "close other programs, or allow this one more memory (ulimit -v)"
        elif number in FAILING:
            kind, remedy = StorageError, "check the disk"
        elif number in READ_ONLY and verb == "read":
            remedy = "make it readable, or name another folder"
        elif number in (*FULL, *READ_ONLY):
            kind, remedy = StorageError, "name a folder that can be written to, on a disk with room"
        else:
            remedy = "name another folder"
        message = f"config.data.cache={cache}: decoded cases cannot be {verb} there"
        raise kind(f"{message} ({what}: {error.strerror or error}): {remedy}.") from error


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)

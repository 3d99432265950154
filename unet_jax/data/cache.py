"""Decode once: cases as memory-mapped arrays on disk, keyed by what is in their files.

A reader is a module, one a file format, or a `Reader` made for one data set, with three names:

* `DECODING`: text that changes whenever the same files would give other pixels;
* `find(root) -> list[CaseFiles]`: which files make up which case;
* `decode(files, read) -> Case`: the pixels; `read(path)` gives a file's bytes or raises InputError. All that is
  wrong with the case is one InputError, one line a fault.

Where the paths of `CaseFiles` are no files of their own, there is a fourth: `read(root, path)`, as `read_file` has it.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
from tqdm import tqdm

from unet_jax.data.case import Case, check_finite
from unet_jax.data.faults import FULL_LIST, lines_of, summary
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.names import name_faults
from unet_jax.errors import InputError, StorageError

LAYOUT = "one .npy for images and one for masks a case, version 1"

# Of all that is neither images nor masks: checkpoints, devices, workers.
OTHER_OPEN_FILES = 512

# Of each file, by its path from the data set's root: size in bytes and SHA-256 in hexadecimal.
Digests = dict[Path, tuple[int, str]]


@dataclasses.dataclass(frozen=True)
class CaseFiles:
    """The files of one case, before anything is read.

    Attributes:
        name: the case's name, unique in its data set.
        patient: whose scan it is.
        images: paths relative to the data set's root, in the order of the slices.
        masks: as many, in the same order; one for a volume that is one file; or none.
        faults: what is wrong with the listing itself, one line each; such a case cannot be decoded.
    """

    name: str
    patient: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    faults: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Reader:
    """The names of a reader, as above, for a format that has settings."""

    DECODING: str
    find: Callable[[Path], list[CaseFiles]]
    decode: Callable[[CaseFiles, Callable[[Path], bytes]], Case]
    read: Callable[[Path, Path], bytes] = read_file


def load(reader: Reader | ModuleType, root: Path, cache: Path) -> tuple[list[Case], str, Digests]:
    """The cases under a folder, decoded now or taken from the cache, and what identifies their files.

    The fingerprint is a SHA-256 over the reader's `DECODING` and every file's relative name, size and
    SHA-256. Decoded cases lie in `<cache>/<fingerprint>/`. Every call hashes all files; it decodes them only
    if the cache does not hold these very ones.

    Args:
        reader: the module that knows the file format, such as `unet_jax.data.formats.lgg`.
        root: the data set's folder.
        cache: the folder for decoded cases (`config.data.cache`); made if missing.

    Returns:
        Cases in the reader's order, their arrays read-only memory maps; the fingerprint in hexadecimal; and the
        files' sizes and digests.

    Raises:
        InputError: anything is wrong with the data (every fault is listed), or the cache cannot be used.
    """
    listing = _with_name_faults(reader.find(root))
    digests = _digests_of_files(reader, listing, root)
    if digests is None or not (cache / _fingerprint(reader, digests) / "index.json").is_file():
        digests = _decode_all(reader, listing, root, cache)
    fingerprint = _fingerprint(reader, digests)
    return _open(cache / fingerprint), fingerprint, digests


def _with_name_faults(listing: list[CaseFiles]) -> list[CaseFiles]:
    found = name_faults([(files.name, files.patient) for files in listing])
    return [
        dataclasses.replace(files, faults=(*files.faults, *faults))
        for files, faults in zip(listing, found, strict=True)
    ]


def _digests_of_files(reader: Reader | ModuleType, listing: list[CaseFiles], root: Path) -> Digests | None:
    """None where a fault is known already: decoding then lists it beside all others."""
    paths = [path for files in listing for path in (*files.images, *files.masks)]
    if any(files.faults for files in listing):
        return None
    digests = hash_files(reader, paths, root)
    return digests if len(digests) == len(paths) else None


def hash_files(reader: Reader | ModuleType, paths: Iterable[Path], root: Path) -> Digests:
    """Size and SHA-256 of files, given by their paths from `root`; those that cannot be read are left out."""
    read = _read_of(reader)

    def hash_folder(paths: list[Path]) -> Digests:
        digests = {}
        for path in paths:
            with contextlib.suppress(InputError):
                digests[path] = _digest(read(root, path))
        return digests

    by_folder = [list(group) for _, group in itertools.groupby(sorted(paths), key=lambda path: path.parent)]
    return _merged(_in_threads(hash_folder, by_folder, "hashing"))


def _read_of(reader: Reader | ModuleType) -> Callable[[Path, Path], bytes]:
    return getattr(reader, "read", read_file)


def _decode_all(reader: Reader | ModuleType, listing: list[CaseFiles], root: Path, cache: Path) -> Digests:
    """Writes every case beside its final place, then renames: a folder with a fingerprint's name is whole."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unfinished-", dir=cache) as unfinished:
            folder = Path(unfinished) / "cases"
            folder.mkdir()
            records, digests, faults = _write_cases(reader, listing, root, folder)
            if faults:
                raise InputError(summary(faults, cache / FULL_LIST))
            # From the very bytes that were decoded, so that files changed since the first hashing do no harm.
            digests = _merged(digests)
            fingerprint = _fingerprint(reader, digests)
            (folder / "index.json").write_text(json.dumps(records, indent=1))
            try:
                folder.rename(cache / fingerprint)
            except OSError:
                # Another process may have finished the same cases first; its folder is as good.
                if not (cache / fingerprint / "index.json").is_file():
                    raise
            return digests
    except OSError as error:
        kind = InputError if isinstance(error, (NotADirectoryError, FileExistsError)) else StorageError
        raise kind(
            f"config.data.cache={cache}: decoded cases cannot be written there ({error.strerror or error}): "
            "name a folder that can be written to, on a disk with room."
        ) from error


def _write_cases(
    reader: Reader | ModuleType, listing: list[CaseFiles], root: Path, folder: Path
) -> tuple[list[dict], list[Digests], list[str]]:
    def convert(numbered: tuple[int, CaseFiles]) -> tuple[dict, Digests, list[str]]:
        number, files = numbered
        digests = {}

        def read(path: Path) -> bytes:
            data = _read_of(reader)(root, path)
            digests[path] = _digest(data)
            return data

        try:
            case = reader.decode(files, read)
            check_finite(case)
        except InputError as error:
            return {}, digests, lines_of(error)
        record = {"name": case.name, "patient": case.patient, "spacing": case.spacing}
        for kind, array in (("image", case.image), ("mask", case.mask)):
            record[kind] = None if array is None else f"{number:05d}_{kind}.npy"
            if array is not None:
                np.save(folder / record[kind], np.ascontiguousarray(array))
        return record, digests, []

    records, digests, faults = zip(*_in_threads(convert, list(enumerate(listing)), "decoding"), strict=True)
    return list(records), list(digests), [fault for some in faults for fault in some]


def _open(folder: Path) -> list[Case]:
    def open_array(name: str | None) -> np.ndarray | None:
        return None if name is None else np.load(folder / name, mmap_mode="r", allow_pickle=False)

    try:
        records = json.loads((folder / "index.json").read_text())
        _allow_open_files(2 * len(records))
        return [
            Case(
                name=record["name"],
                patient=record["patient"],
                image=open_array(record["image"]),
                mask=open_array(record["mask"]),
                spacing=None if record["spacing"] is None else tuple(record["spacing"]),
            )
            for record in records
        ]
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: these decoded cases are damaged ({error}): delete the folder, it is made again."
        ) from error


def _allow_open_files(count: int) -> None:
    """A memory map keeps its file open, and many systems allow a process 1024 open files unless it asks for more."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + OTHER_OPEN_FILES
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        if most != resource.RLIM_INFINITY and most < needed:
            raise InputError(
                f"{count} files of decoded cases must be open at once, and this system allows {most}: raise its limit "
                "(ulimit -Hn), or put the slices of each volume together with config.data.patient_pattern."
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))


def _in_threads(function: Callable, items: list, title: str) -> list:
    """Reading, hashing and decoding all leave Python's lock, so threads are enough."""
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(function, items)
        return list(tqdm(results, desc=title, total=len(items), unit="case", disable=None, delay=1))


def _digest(data: bytes) -> tuple[int, str]:
    return len(data), hashlib.sha256(data).hexdigest()


def _merged(digests: Iterable[Digests]) -> Digests:
    return {path: digest for some in digests for path, digest in some.items()}


def _fingerprint(reader: Reader | ModuleType, digests: Digests) -> str:
    files = sorted((path.as_posix(), *digest) for path, digest in digests.items())
    text = json.dumps({"layout": LAYOUT, "decoding": reader.DECODING, "files": files})
    return hashlib.sha256(text.encode()).hexdigest()

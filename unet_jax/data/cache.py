"""Decode once: cases as memory-mapped arrays on disk, keyed by what is in their files.

A reader is a module, one a file format, with three names:

* `DECODING`: text that changes whenever the same files would give other pixels;
* `find(root) -> list[CaseFiles]`: which files make up which case;
* `decode(files, read) -> Case`: the pixels; `read(path)` gives a file's bytes or raises OSError. All that is
  wrong with the case is one InputError, one line a fault.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
from tqdm import tqdm

from unet_jax.data.case import Case
from unet_jax.errors import InputError

LAYOUT = "one .npy for images and one for masks a case, version 1"

Digests = dict[Path, tuple[int, str]]


@dataclasses.dataclass(frozen=True)
class CaseFiles:
    """The files of one case, before anything is read.

    Attributes:
        name: the case's name, unique in its data set.
        patient: whose scan it is.
        images: paths relative to the data set's root, in the order of the slices.
        masks: as many, in the same order.
        faults: what is wrong with the listing itself, one line each; such a case cannot be decoded.
    """

    name: str
    patient: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    faults: tuple[str, ...] = ()


def load(reader: ModuleType, root: Path, cache: Path) -> tuple[list[Case], str]:
    """The cases under a folder, decoded now or taken from the cache, and the fingerprint of their files.

    The fingerprint is a SHA-256 over the reader's `DECODING` and every file's relative name, size and
    SHA-256. Decoded cases lie in `<cache>/<fingerprint>/`. Every call hashes all files; it decodes them only
    if the cache does not hold these very ones.

    Args:
        reader: the module that knows the file format, such as `unet_jax.data.lgg`.
        root: the data set's folder.
        cache: the folder for decoded cases (`config.data.cache`); made if missing.

    Returns:
        Cases in the reader's order, their arrays read-only memory maps, and the fingerprint in hexadecimal.

    Raises:
        InputError: anything is wrong with the data (every fault is listed), or the cache cannot be used.
    """
    listing = reader.find(root)
    fingerprint = _fingerprint_of_files(reader, listing, root)
    if fingerprint is None or not (cache / fingerprint / "index.json").is_file():
        fingerprint = _decode_all(reader, listing, root, cache)
    return _open(cache / fingerprint), fingerprint


def _fingerprint_of_files(reader: ModuleType, listing: list[CaseFiles], root: Path) -> str | None:
    """None where a fault is known already: decoding then lists it beside all others."""

    def hash_case(files: CaseFiles) -> Digests:
        return {path: _digest((root / path).read_bytes()) for path in (*files.images, *files.masks)}

    if any(files.faults for files in listing):
        return None
    try:
        return _fingerprint(reader, _in_threads(hash_case, listing, "hashing"))
    except OSError:
        return None


def _decode_all(reader: ModuleType, listing: list[CaseFiles], root: Path, cache: Path) -> str:
    """Writes every case beside its final place, then renames: a folder with a fingerprint's name is whole."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unfinished-", dir=cache) as unfinished:
            folder = Path(unfinished) / "cases"
            folder.mkdir()
            records, digests, faults = _write_cases(reader, listing, root, folder)
            if faults:
                raise InputError("\n".join(faults))
            # From the very bytes that were decoded, so that files changed since the first hashing do no harm.
            fingerprint = _fingerprint(reader, digests)
            (folder / "index.json").write_text(json.dumps(records, indent=1))
            try:
                folder.rename(cache / fingerprint)
            except OSError:
                # Another process may have finished the same cases first; its folder is as good.
                if not (cache / fingerprint / "index.json").is_file():
                    raise
            return fingerprint
    except OSError as error:
        raise InputError(
            f"config.data.cache={cache}: decoded cases cannot be written there ({error.strerror or error}): "
            "name a folder that can be written to, on a disk with room."
        ) from error


def _write_cases(
    reader: ModuleType, listing: list[CaseFiles], root: Path, folder: Path
) -> tuple[list[dict], list[Digests], list[str]]:
    def convert(numbered: tuple[int, CaseFiles]) -> tuple[dict, Digests, str]:
        number, files = numbered
        digests = {}

        def read(path: Path) -> bytes:
            data = (root / path).read_bytes()
            digests[path] = _digest(data)
            return data

        try:
            case = reader.decode(files, read)
        except InputError as error:
            return {}, digests, str(error)
        record = {"name": case.name, "patient": case.patient, "spacing": case.spacing}
        for kind, array in (("image", case.image), ("mask", case.mask)):
            record[kind] = None if array is None else f"{number:05d}_{kind}.npy"
            if array is not None:
                np.save(folder / record[kind], array)
        return record, digests, ""

    records, digests, faults = zip(*_in_threads(convert, list(enumerate(listing)), "decoding"), strict=True)
    return list(records), list(digests), [fault for fault in faults if fault]


def _open(folder: Path) -> list[Case]:
    def open_array(name: str | None) -> np.ndarray | None:
        return None if name is None else np.load(folder / name, mmap_mode="r")

    try:
        return [
            Case(
                name=record["name"],
                patient=record["patient"],
                image=open_array(record["image"]),
                mask=open_array(record["mask"]),
                spacing=None if record["spacing"] is None else tuple(record["spacing"]),
            )
            for record in json.loads((folder / "index.json").read_text())
        ]
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: these decoded cases are damaged ({error}): delete the folder, it is made again."
        ) from error


def _in_threads(function: Callable, items: list, title: str) -> list:
    """Reading, hashing and decoding all leave Python's lock, so threads are enough."""
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(function, items)
        return list(tqdm(results, desc=title, total=len(items), unit="case", disable=None, delay=1))


def _digest(data: bytes) -> tuple[int, str]:
    return len(data), hashlib.sha256(data).hexdigest()


def _fingerprint(reader: ModuleType, digests: Iterable[Digests]) -> str:
    files = sorted((path.as_posix(), *digest) for case in digests for path, digest in case.items())
    text = json.dumps({"layout": LAYOUT, "decoding": reader.DECODING, "files": files})
    return hashlib.sha256(text.encode()).hexdigest()

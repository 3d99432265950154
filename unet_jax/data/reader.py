"""What a file format must offer: which files make up a case, and the pixels in them.

A reader is a module, one a file format, or a `Reader` made for one data set, with three names:

* `DECODING`: text that changes whenever the same files would give other pixels;
* `find(root) -> list[CaseFiles]`: which files make up which case;
* `decode(files, read) -> Case`: the pixels; `read(path)` gives a file's bytes or raises InputError. All that is
  wrong with the case is one InputError, one line a fault.

Where the paths of `CaseFiles` are not files themselves, there is a fourth: `read(root, path)`, as `read_file` has it.
"""

import contextlib
import dataclasses
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from unet_jax.data import verified
from unet_jax.data.case import Case
from unet_jax.data.formats import two_files
from unet_jax.data.formats.image_file import locate, read_file
from unet_jax.data.threads import in_threads
from unet_jax.data.verified import Stamp, Verified
from unet_jax.errors import InputError

# Of each file, by its path from the data set's root: size in bytes and SHA-256 in hexadecimal.
Digests = dict[Path, tuple[int, str]]
# Files that a thread hashes before it takes others.
PART = 64
# The last bytes of a gzip file: how large its content is, modulo 2**32.
GZIP_NOTE = 4


@dataclasses.dataclass(frozen=True)
class CaseFiles:
    """The files of one case, before anything is read.

    Attributes:
        name: the case's name, unique in its data set.
        patient: whose scan it is.
        images: paths relative to the data set's root, in the order of the slices.
        masks: as many, in the same order; one for a volume that is one file; or none.
        faults: what is wrong with the listing itself, one line each; such a case cannot be decoded.
        beside: files that lie with those of the case and are not read, in words; empty where there are none.
        channels: how many of `images` are one slice's, or the volume's: a file a channel, which follow each other.
        parts: where slices have several masks, which are united, how many of `masks` each has; else empty.
    """

    name: str
    patient: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    faults: tuple[str, ...] = ()
    beside: str = ""
    channels: int = 1
    parts: tuple[int, ...] = ()

    @property
    def first_channels(self) -> tuple[Path, ...]:
        """The files that stand for the slices, or for the volume."""
        return self.images[:: self.channels]


@dataclasses.dataclass(frozen=True)
class Reader:
    """The names of a reader, as above, for a format that has settings."""

    DECODING: str
    find: Callable[[Path], list[CaseFiles]]
    decode: Callable[[CaseFiles, Callable[[Path], bytes]], Case]
    read: Callable[[Path, Path], bytes] = read_file


def hash_files(reader: Reader | ModuleType, paths: Iterable[Path], root: Path, known: Verified) -> Digests:
    """Size and SHA-256 of files, given by their paths from `root`; those that cannot be read are left out.

    Files that are as they were when they were noted in `known` are not read; what is read is noted.
    """
    read = read_of(reader)

    def hash_part(paths: list[Path]) -> Digests:
        digests = {}
        for path in paths:
            with contextlib.suppress(InputError):
                before = stamp_of(reader, root, path)
                sha = known.get(path.as_posix(), before)
                digests[path] = (before.size, sha) if before and sha else digest(read(root, path))
                known.note(path.as_posix(), before, digests[path][1])
        return digests

    ordered = sorted(paths)
    parts = [ordered[start : start + PART] for start in range(0, len(ordered), PART)]
    hashed = in_threads(hash_part, parts, "hashing", "part")
    return {path: found for digests in hashed for path, found in digests.items()}


def stamp_of(reader: Reader | ModuleType, root: Path, path: Path) -> Stamp | None:
    """What tells whether a file changed; None where one file does not tell it, as of records and headers.

    Raises:
        InputError: it lies outside of the root.
    """
    if read_of(reader) is not read_file or path.suffix.lower() in two_files.SUFFIXES:
        return None
    try:
        return verified.stamp(locate(root, path))
    except OSError:  # reading says what it is
        return None


def read_of(reader: Reader | ModuleType) -> Callable[[Path, Path], bytes]:
    """How a reader reads a path."""
    return getattr(reader, "read", read_file)


def digest(data: bytes) -> tuple[int, str]:
    """What `Digests` holds of a file of these bytes."""
    return len(data), hashlib.sha256(data).hexdigest()


def uncompressed_bytes(path: Path) -> int:
    """How large a file is, by its gzip's own note if it is one; 0 where it cannot be told, as of records."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return 0
        if path.suffix.lower() != ".gz" or found.st_size < GZIP_NOTE:
            return found.st_size
        with path.open("rb") as file:
            file.seek(-GZIP_NOTE, os.SEEK_END)
            return max(int.from_bytes(file.read(GZIP_NOTE), "little"), found.st_size)
    except OSError:  # reading says what it is
        return 0

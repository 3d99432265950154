"""What was read and found whole by an earlier start, so that this one need not read it again.

A file is taken to be what it was where its size, the times of its last changes (mtime and ctime, in nanoseconds) and
its inode are, as git does it. Whatever writes to a file, or puts another in its place, changes one of these. What does
not is below the file system: a bit that flips on the disk, or a write to the raw device. `--verify-data` reads all.

    known = verified.read(cache, root)
    stamp = verified.stamp(place)            # before the file is read
    if known.get(name, stamp) is None:       # what was noted of it
        known.note(name, stamp, value)
    known.save()
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

from unet_jax.errors import StorageError
from unet_jax.files import write_parts

SUFFIX = ".verified"
# A file that changed less than this before a start is not noted by it: it may change again within one tick of its
# file system's clock, of which the coarsest (FAT) has two seconds.
SETTLED_NS = 2 * 10**9


class Stamp(NamedTuple):
    """What tells whether a file changed: bytes, nanoseconds since 1970 of its content and of its inode, its inode."""

    size: int
    modified: int
    changed: int
    inode: int


def stamp(place: Path | str) -> Stamp | None:
    """The file's, or None of what is missing or is not a file, such as a link."""
    try:
        found = os.lstat(place)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@dataclasses.dataclass
class Verified:
    """The files of a folder that were read and found whole; several threads may use it.

    Attributes:
        path: where it is kept.
        noted: a file's stamp, and what was found then, by its name.
    """

    path: Path
    noted: dict[str, tuple[Stamp, str]] = dataclasses.field(default_factory=dict)
    _settled: int = dataclasses.field(default_factory=lambda: time.time_ns() - SETTLED_NS)
    _changed: bool = False

    def get(self, name: str, now: Stamp | None) -> str | None:
        """What was noted of a file whose stamp is `now`; None if it has to be read."""
        before, value = self.noted.get(name, (None, None))
        return value if now is not None and now == before else None

    def note(self, name: str, before: Stamp | None, value: str) -> None:
        """Notes what was found in a file, by its stamp from before it was read; of too young a file, nothing."""
        if before is None or max(before.modified, before.changed) > self._settled:
            return
        if self.noted.get(name) != (before, value):
            self.noted[name] = (before, value)
            self._changed = True

    def save(self) -> None:
        """Keeps it for the next start, if there is news; a cache that cannot be written to is read all the same."""
        if not self._changed or not self.path.parent.is_dir():
            return
        body = json.dumps({name: [*before, value] for name, (before, value) in self.noted.items()}).encode()
        with contextlib.suppress(OSError, StorageError):
            write_parts(self.path, [_head(body), body])
            self._changed = False


def nothing(cache: Path, folder: Path) -> Verified:
    """As if no file of `folder` had been read before; what is noted then replaces what `cache` holds."""
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
    return Verified(cache / f"{name}{SUFFIX}", _changed=True)


def read(cache: Path, folder: Path) -> Verified:
    """What earlier starts with this `cache` noted of the files of `folder`; nothing where that is damaged."""
    known = nothing(cache, folder)
    known._changed = False
    # A pipe in its place would be waited for.
    if stamp(known.path) is None:
        return known
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        content = known.path.read_bytes()
        end = content.find(b"\n") + 1
        if content[:end] == _head(content[end:]):
            found = json.loads(content[end:]).items()
            known.noted.update({name: (Stamp(*values[:4]), str(values[4])) for name, values in found})
    return known


def _head(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n"

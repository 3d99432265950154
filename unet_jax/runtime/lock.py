"""One process at a time in a run's folder."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from unet_jax.errors import BusyError, InputError, StorageError
from unet_jax.files import storage_error

LOCK = ".lock"


@contextlib.contextmanager
def lock_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps every other process out of `folder`; makes it, and removes it again if it stays empty.

    The kernel releases the lock when its holder ends, in whatever way: the folder of a killed run is free. Spawned
    processes, such as grain's workers, do not inherit it.

    Args:
        folder: may be missing.
        wait: waits while another process holds the folder.

    Raises:
        BusyError: another process holds the folder, without `wait`.
        InputError: it is not a folder.
        StorageError: it cannot be made or written to, or its file system has no locks.
    """
    path = folder / LOCK
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        lock = _take(path, wait=wait)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} is not a folder: name another --workdir.") from None
    except OSError as error:
        raise storage_error(error, path) or StorageError(
            f"{path} cannot be locked ({error.strerror}): name a --workdir on another file system."
        ) from None
    try:
        yield
    finally:
        # Removed while still locked: whoever has opened it meanwhile sees that the file has lost its name.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(lock)
        with contextlib.suppress(OSError):
            for one in made:
                one.rmdir()


def _take(path: Path, *, wait: bool) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # its last holder has just removed the empty folder
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(lock, path):
                os.ftruncate(lock, 0)
                os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return lock
        except BlockingIOError:
            holder = os.pread(lock, 1000, 0).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise BusyError(
                f"{path.parent} is in use by {holder}: wait until it has ended, or name another --workdir."
            ) from None
        except OSError:
            os.close(lock)
            raise
        os.close(lock)


def _is_at(lock: int, path: Path) -> bool:
    """Whether the open file is still the one of that name: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False

"""Small files written whole or not at all, and what it means when a disk refuses them."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from unet_jax.errors import InputError, StorageError

# The key of a sealed file's digest.
SEAL = "sha256"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
FAILING = (errno.EIO,)


def write_bytes(path: Path, data: bytes, *, swept: bool = False) -> None:
    """Writes `data` to `path`: a reader finds the old file or the whole new one, never a part of it.

    What killed writers left beside it is removed.

    Args:
        path: where it goes; the folder is made if missing.
        data: its bytes.
        swept: whether `sweep` did that already: one of many files in a folder need not list it.

    Raises:
        StorageError: the disk is full, read-only or failing; the old file, if any, is as it was.
    """
    write_parts(path, [data], swept=swept)


def write_parts(path: Path, parts: Sequence[bytes | memoryview], *, swept: bool = False) -> None:
    """Writes `parts`, one after the other, in the same way; large ones need not be copied into one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not swept:
            _remove_leftovers(path)
        # "x" never follows a link.
        with open(unfinished, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            # Some file systems notice only now that there is no room.
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise storage_error(error, path, sum(memoryview(part).nbytes for part in parts)) or error from None


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[TextIO]:
    """A new file of UTF-8 text to write to bit by bit, which takes the place of `path` when all of it is written.

    If writing fails, or the process is killed, the old file stays.

    Raises:
        StorageError: the disk is full, read-only or failing; the old file, if any, is as it was.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(path)
            file = open(unfinished, "x", encoding="utf-8", errors="backslashreplace", newline="")  # noqa: SIM115
        except OSError as error:
            raise storage_error(error, path) or error from None
        try:
            yield file
            try:
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise storage_error(error, path) or error from None
        finally:
            with contextlib.suppress(OSError):  # what could not be written is tried once more
                file.close()
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write files into, which takes the place of `folder` when all of them are written.

    What else lies in the old folder moves to the new one. If writing fails, or the process is killed, the old folder
    stays. What killed writers left beside it is removed; one that was killed while it swapped the folders may have left
    the old one there, which is put back first.

    Raises:
        StorageError: the disk is full, read-only or failing; the old folder, if any, is as it was.
    """
    unfinished, replaced = (folder.with_name(f".{folder.name}.{kind}{os.getpid()}") for kind in ("", "old."))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for swapped in _leftovers(folder):
            if swapped.name.startswith(f".{folder.name}.old."):
                _end_swap(swapped, folder)
        _remove_leftovers(folder)
        unfinished.mkdir()
        yield unfinished
        if folder.exists():
            os.rename(folder, replaced)
        os.rename(unfinished, folder)
    except OSError as error:
        raise storage_error(error, folder) or error from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        with contextlib.suppress(OSError):  # then the next writer does it
            _end_swap(replaced, folder)


def _end_swap(replaced: Path, folder: Path) -> None:
    """Puts the old folder back where no new one took its place; else moves what the new one lacks, and removes it."""
    if not replaced.is_dir():
        return
    if not folder.exists():
        os.rename(replaced, folder)
        return
    for path in replaced.iterdir():
        if not os.path.lexists(folder / path.name):
            os.rename(path, folder / path.name)
    shutil.rmtree(replaced, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    for leftover in _leftovers(path):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def sweep(paths: Iterable[Path]) -> None:
    """Removes what killed writers of these files left beside them; each folder is listed once.

    Raises:
        StorageError: the disk is read-only or failing.
    """
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, written in names.items():
        try:
            for leftover in folder.glob(".*"):
                if leftover.name[1:].rpartition(".")[0] in written and _is_left(leftover):
                    leftover.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, folder) or error from None


def _leftovers(path: Path) -> list[Path]:
    """What writers of `path` that are no more left beside it, and what this process did."""
    return [leftover for leftover in path.parent.glob(f".{glob.escape(path.name)}.*") if _is_left(leftover)]


def _is_left(leftover: Path) -> bool:
    writer = leftover.name.rpartition(".")[2]
    return writer.isdigit() and (int(writer) == os.getpid() or not _is_alive(int(writer)))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, by `write_bytes`; bytes of a path that are not UTF-8 are escaped."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, by `write_bytes`."""
    write_text(path, _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes `value` as JSON in the same way, with the SHA-256 of its contents, which `read_json` checks."""
    write_bytes(path, sealed_json(value))


def sealed_json(value: Mapping[str, Any]) -> bytes:
    """What `write_sealed_json` writes."""
    return _json({**value, SEAL: json_digest(value)}).encode(errors="backslashreplace")


def json_digest(value: Any) -> str:
    """The SHA-256 of what JSON holds, whatever the order of its keys, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def append_line(path: Path, line: str) -> None:
    """Adds a line to the end of `path`. It outlives this process, but not a power cut.

    Raises:
        StorageError: the disk is full, read-only or failing; the file is as it was.
    """
    data = f"{line}\n".encode(errors="backslashreplace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                # A disk that fills up takes a part in silence; the next call raises.
                done = 0
                while done < len(data):
                    done += file.write(data[done:])
            except OSError:
                file.truncate(end)
                raise
    except OSError as error:
        raise storage_error(error, path, len(data)) or error from None


def storage_error(error: OSError, path: Path | str | None = None, needed: int | None = None) -> StorageError | None:
    """The StorageError that an error of a full, read-only or failing disk stands for; None for any other error.

    Args:
        error: what the system raised.
        path: the file; None for the one that `error` names.
        needed: bytes that were to be written.
    """
    path = path or error.filename or "a file"
    room = "" if needed is None else f"; {needed:,} bytes are needed{_and_free(Path(path))}"
    if error.errno in FULL:
        remedy = "free some room, then run the same command again"
    elif error.errno in READ_ONLY:
        remedy = "make it writable, or name another folder"
    elif error.errno in FAILING:
        remedy = "check the disk"
    else:
        return None
    return StorageError(f"{path}: {error.strerror}{room}: {remedy}.")


def _and_free(path: Path) -> str:
    with contextlib.suppress(OSError):
        return f", {shutil.disk_usage(path.parent).free:,} are free"
    return ""


def read_json(path: Path) -> Any:
    """What `path` holds, without the seal of `write_sealed_json`.

    Raises:
        InputError: it cannot be read, is not JSON, or is not what was sealed.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give the folder of a run, or restore the file."
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): restore it.") from None
    seal = found.pop(SEAL, None) if isinstance(found, dict) and isinstance(found.get(SEAL), str) else None
    if seal not in (None, json_digest(found)):
        raise InputError(f"{path} is not what was written (SHA-256): it was damaged or edited; restore it.")
    return found

"""What all readers share: bytes from files that may be anything, and pixels from bytes that may be anything."""

import stat
from collections.abc import Callable
from pathlib import Path, PurePath

import cv2
import numpy as np

from unet_jax.data.faults import lines_of
from unet_jax.data.formats.image_header import SUFFIXES, Header, read_header
from unet_jax.data.names import shown
from unet_jax.errors import InputError

MAX_FILE_BYTES = 2**31

# A damaged file is reported by name as an InputError; OpenCV's own lines on stderr name no file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_file(root: Path, path: PurePath) -> bytes:
    """The bytes of a file of a data set.

    Args:
        root: the data set's folder.
        path: relative to it; messages name the file so.

    Raises:
        InputError: there is no such file, it cannot be read, is no plain file (a folder, pipe or device: opening a pipe
            would wait for ever), lies outside the root by a link, or is larger than MAX_FILE_BYTES.
    """
    try:
        place = _locate(root, path)
        status = place.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{shown(path)}: is a folder, pipe or device, no file: remove it or restore the file.")
        if status.st_size > MAX_FILE_BYTES:
            raise InputError(
                f"{shown(path)}: has {status.st_size} bytes, and up to {MAX_FILE_BYTES} are read: split it."
            )
        return place.read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror) from error


def list_folder(root: Path, path: PurePath) -> list[str]:
    """Sorted names of what is in a folder of a data set, hidden files (which editors and macOS leave) left out.

    Args:
        root: the data set's folder.
        path: relative to it; messages name the folder so.

    Raises:
        InputError: the folder is missing, cannot be read or lies outside the root by a link.
    """
    try:
        return sorted(entry.name for entry in _locate(root, path).iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise _unreadable(path, error.strerror) from error


def _locate(root: Path, path: PurePath) -> Path:
    # Following links costs ten times as much as asking whether there are any, and there are thousands of files.
    within = (path, *list(path.parents)[:-1])
    if ".." not in path.parts and not any((root / part).is_symlink() for part in within):
        return root / path
    try:
        place = (root / path).resolve(strict=True)
    except RuntimeError as error:  # what Python before 3.13 says of a loop
        raise _unreadable(path, "its links form a loop") from error
    if not place.is_relative_to(root.resolve()):
        raise InputError(f"{shown(path)}: is a link to {shown(place)}, outside of the data set: copy it there.")
    return place


def _unreadable(path: PurePath, reason: str) -> InputError:
    return InputError(f"{shown(path)}: cannot be read ({reason}): mend its permissions, restore or remove it.")


def decode_image(data: bytes, name: PurePath | str) -> np.ndarray:
    """The pixels of a TIFF, PNG or JPEG of one picture, exactly as they are in the file.

    Args:
        data: the file's bytes.
        name: the file's name, for messages; its suffix must fit the content.

    Returns:
        [rows, columns] or [rows, columns, channels], channels in the order of the file (red, green, blue, alpha), of
        type uint8, uint16 or float32 (others where a TIFF has them). One bit a pixel gives 0 and 255.

    Raises:
        InputError: the bytes are no such picture, are damaged or claim too many pixels, or cannot be decoded without
            changing the pixels (see `read_header`).
    """
    try:
        header = read_header(data)
        suffix = PurePath(name).suffix.lower()
        if suffix not in SUFFIXES[header.kind]:
            raise InputError(f"is a {header.kind} and its name ends in {suffix!r}: rename or convert it.")
        pixels = _decode(header, data)
    except InputError as error:
        raise InputError(f"{shown(name)}: {error}") from error
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def decode_or_note(
    decode: Callable[[bytes, Path], np.ndarray], path: Path, read: Callable[[Path], bytes], faults: list[str]
) -> np.ndarray | None:
    """The pixels that `decode(data, path)` makes of a file's bytes; None after an InputError, which joins `faults`."""
    try:
        return decode(read(path), path)
    except InputError as error:
        faults += lines_of(error)
    return None


def _decode(header: Header, data: bytes) -> np.ndarray:
    """Pixels as OpenCV holds them (channels reversed)."""
    try:
        # IMREAD_UNCHANGED: others turn 16 bits into 8, one or four channels into three, and pictures by their EXIF.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise InputError(f"the file is damaged ({len(data)} bytes, its pixels cannot be decoded): restore it.")
    found = (*pixels.shape[:2], 1 if pixels.ndim == 2 else pixels.shape[2])
    if found != (header.rows, header.columns, header.channels) or pixels.dtype != header.dtype:
        raise InputError(
            f"has {header.rows}x{header.columns} pixels, {header.channels} channels of {header.dtype}, and decodes to "
            "something else: save it as 8-bit grey or RGB, or restore it."
        )
    return pixels

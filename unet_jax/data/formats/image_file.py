"""What all readers share: the bytes of a file and the pixels of a picture, however malformed either may be."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePath

import cv2
import numpy as np
from jaxtyping import Shaped

from unet_jax.data.faults import lines_of
from unet_jax.data.formats import pillow_file, two_files
from unet_jax.data.formats.image_header import SUFFIXES, Header, read_header, read_headers
from unet_jax.data.names import shown
from unet_jax.errors import InputError
from unet_jax.wording import count

MAX_FILE_BYTES = 2**31
# What to do about a file that is whole and cannot be read, by the system's number; else see `_unreadable`.
REMEDIES = {
    errno.EMFILE: "close other programs, or allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs, or allow more open files (ulimit -n)",
    errno.ENOMEM: "close other programs, or allow this one more memory (ulimit -v)",
    errno.EIO: "check the disk",
}

# A damaged file is reported by name as an InputError; OpenCV's own messages on stderr do not name it.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_file(root: Path, path: PurePath) -> bytes:
    """The bytes of a file of a data set; those of two files that belong together are joined, see `two_files`.

    Args:
        root: the data set's folder.
        path: relative to the root, as in messages.

    Raises:
        InputError: the file is missing, unreadable, larger than MAX_FILE_BYTES, not a regular file (opening a pipe
            would wait for ever), or outside the root by way of a link.
    """
    return two_files.joined(_read(root, path), path, lambda other: _read(root, other))


def read_head(root: Path, path: PurePath, count: int) -> bytes:
    """The first bytes of a file, or all of a shorter one; arguments and what it raises are those of `read_file`."""
    return _read(root, path, count)


def _read(root: Path, path: PurePath, count: int = -1) -> bytes:
    try:
        place = locate(root, path)
        status = os.stat(place)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{shown(path)}: is a folder, pipe or device, not a file: remove it or restore the file.")
        if status.st_size > MAX_FILE_BYTES:
            raise InputError(
                f"{shown(path)}: has {status.st_size:,} bytes, and up to {MAX_FILE_BYTES:,} are read: split it."
            )
        with open(place, "rb", buffering=0) as file:
            return file.read(count)
    except OSError as error:
        raise _unreadable(path, error.strerror, error.errno) from error


def list_folder(root: Path, path: PurePath) -> list[str]:
    """The sorted names in a folder of a data set, without hidden files, which editors and macOS leave behind.

    Args:
        root: the data set's folder.
        path: relative to the root, as in messages.

    Raises:
        InputError: the folder is missing, unreadable, or outside the root by way of a link.
    """
    try:
        return sorted(name for name in os.listdir(locate(root, path)) if not name.startswith("."))
    except OSError as error:
        raise _unreadable(path, error.strerror, error.errno) from error


def locate(root: Path, path: PurePath) -> str:
    """Where a file of a data set lies, all links followed.

    Raises:
        InputError: outside the root.
        OSError: links lead nowhere.
    """
    # Resolving a path costs ten times as much as asking whether it has links, and text a third of paths: there are
    # thousands of files.
    parts, place = path.parts, str(root)
    is_plain = ".." not in parts
    for part in parts:
        place = f"{place}/{part}"
        is_plain = is_plain and not os.path.islink(place)
    if is_plain:
        return place
    try:
        place = (root / path).resolve(strict=True)
    except RuntimeError as error:  # how Python before 3.13 reports a loop
        raise _unreadable(path, "its links form a loop") from error
    if not place.is_relative_to(root.resolve()):
        raise InputError(f"{shown(path)}: is a link to {shown(place)}, outside of the data set: copy it there.")
    return str(place)


def _unreadable(path: PurePath, reason: str, number: int | None = None) -> InputError:
    remedy = REMEDIES.get(number, "mend its permissions, restore or remove it")
    return InputError(f"{shown(path)}: cannot be read ({reason}): {remedy}.")


def decode_image(data: bytes, name: PurePath | str) -> np.ndarray:
    """The pixels of a TIFF, PNG or JPEG that holds one picture.

    Args:
        data: the file's bytes.
        name: the file's name, for messages; its suffix must match the content.

    Returns:
        [rows, columns] or [rows, columns, channels] of uint8, uint16 or float32, or another type that a TIFF has.
        Channels are in the file's order (red, green, blue, alpha). Pixels of one bit become 0 and 255.

    Raises:
        InputError: the file is not such a picture, is damaged, claims too many pixels, or cannot be decoded without
            changing its pixels (see `read_header`).
    """
    try:
        header = read_header(data)
        _check_suffix(header, name)
        return _decode(header, data)
    except InputError as error:
        raise InputError(f"{shown(name)}: {error}") from error


def decode(data: bytes, name: PurePath | str, *, mask: bool = False) -> Shaped[np.ndarray, "d h w c"]:
    """The pixels of a PNG or JPEG, or of all pages of a TIFF, with palettes.

    Args:
        data: the file's bytes.
        name: the file's name, for messages; its suffix must match the content.
        mask: whether a palette's pixels are the numbers of the colours, as of masks, rather than the colours: see
            `pillow_file.pixels_of`.

    Raises:
        InputError: as `decode_image`; or pages differ in size or type.
    """
    try:
        headers = read_headers(data)
        first = headers[0]
        _check_suffix(first, name)
        if any(header != first for header in headers):
            raise InputError("has pages of several sizes or types: save each page as a file of its own.")
        if first.by_pillow:
            pages = pillow_file.decode_pages(first.kind, data, len(headers), mask)
        else:
            pages = [_decode(first, data)] if len(headers) == 1 else _decode_all(first, data, len(headers))
    except InputError as error:
        raise InputError(f"{shown(name)}: {error}") from error
    return np.stack([page if page.ndim == 3 else page[..., None] for page in pages])


def encode(volume: Shaped[np.ndarray, "d h w"], suffix: str) -> bytes:
    """A PNG of one slice, or a TIFF with a page for each; JPEG is not written, because it changes values."""
    if len(volume) == 1:
        return cv2.imencode(suffix, volume[0])[1].tobytes()
    return cv2.imencodemulti(suffix, list(volume))[1].tobytes()


def _check_suffix(header: Header, name: PurePath | str) -> None:
    suffix = PurePath(name).suffix.lower()
    if suffix not in SUFFIXES[header.kind]:
        raise InputError(f"is a {header.kind} and its name ends in {suffix!r}: rename or convert it.")


def _colours_in_order(pixels: np.ndarray) -> np.ndarray:
    """What OpenCV decoded, blue first, with red first."""
    if pixels.ndim == 2:
        return pixels
    # cvtColor takes these types alone. It moves values without reading them, so any other type of the size will do.
    moved = pixels.view({1: np.uint8, 2: np.uint16, 4: np.float32}[pixels.itemsize])
    code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return cv2.cvtColor(moved, code).view(pixels.dtype)


def decode_or_note(
    decode: Callable[[bytes, Path], np.ndarray], path: Path, read: Callable[[Path], bytes], faults: list[str]
) -> np.ndarray | None:
    """The pixels that `decode(data, path)` returns; None after an InputError, whose message is added to `faults`."""
    try:
        return decode(read(path), path)
    except InputError as error:
        faults += lines_of(error)
    return None


def _decode(header: Header, data: bytes) -> np.ndarray:
    if header.by_pillow:
        return pillow_file.decode_pages(header.kind, data, 1)[0]
    try:
        # The other modes convert 16 bits to 8 and one or four channels to three, and turn pictures by their EXIF.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise _undecodable(data)
    return _as_claimed(header, pixels)


def _decode_all(header: Header, data: bytes, pages: int) -> list[np.ndarray]:
    try:
        whole, found = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        whole, found = False, ()
    if not whole or len(found) != pages:
        raise _undecodable(data)
    return [_as_claimed(header, page) for page in found]


def _undecodable(data: bytes) -> InputError:
    return InputError(f"the file is damaged ({len(data):,} bytes, its pixels cannot be decoded): restore it.")


def _as_claimed(header: Header, pixels: np.ndarray) -> np.ndarray:
    found = (*pixels.shape[:2], 1 if pixels.ndim == 2 else pixels.shape[2])
    if found != (header.rows, header.columns, header.channels) or pixels.dtype != header.dtype:
        raise InputError(
            f"has {header.rows}x{header.columns} pixels, {count(header.channels, 'channel')} of {header.dtype}, and "
            "decodes to something else: save it as 8-bit grey or RGB, or restore it."
        )
    return _colours_in_order(pixels)

"""Pillow behind one door: quiet, and with one exception for the many that a damaged file can make it raise."""

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from unet_jax.errors import InputError

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

# Pillow's plugins are imported where pictures are opened: a run whose cases are decoded already does not wait for them.

# EXIF (CIPA DC-008), and TIFF 6.0, section 2, for its kind of number.
ORIENTATION, SHORT = 274, 3

# A class of Pillow's plugins, all of them ImageFiles.
Picture = TypeVar("Picture")

_lock = threading.Lock()


class DamagedError(Exception):
    """The file contradicts itself or its checksums."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Runs Pillow without warnings; whatever it raises becomes a DamagedError.

    Pillow warns of oddities without naming the file, and a damaged file can make it raise nearly anything.
    """
    # Filters of warnings belong to the whole process: one thread at a time may replace and restore them.
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            raise DamagedError(" ".join(str(error).split()) or type(error).__name__) from error


def open_picture(plugin: Callable[[io.BytesIO], Picture], data: bytes) -> Picture:
    """The picture with its header read and no pixel decoded.

    Image.open would apply limits that belong to the whole process, and take a photo with a second picture for an MPO.

    Raises:
        InputError: Pillow cannot read it. The message does not name the file.
    """
    try:
        with quiet():
            picture = plugin(io.BytesIO(data))
            if not picture.tile:
                raise DamagedError("it holds no pixels")
            return picture
    except DamagedError as error:
        raise InputError(
            f"cannot be read ({len(data):,} bytes, {error}): restore it, or save it as 8-bit grey or RGB."
        ) from error


def read_directory(data: bytes, start: int | None = None) -> "ImageFileDirectory_v2":
    """A directory of a TIFF, a BigTIFF or an EXIF block, which is laid out like one; `next` is None if cut off.

    Args:
        data: the file's bytes.
        start: where the directory begins; None for the first.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file = io.BytesIO(data)
    directory = ImageFileDirectory_v2(file.read(16 if is_big(data) else 8))
    file.seek(directory.next if start is None else start)
    directory.next = None
    directory.load(file)
    return directory


def is_big(data: bytes) -> bool:
    """Whether a TIFF is a BigTIFF, whose offsets have 64 bits."""
    return data[:4] in (b"II+\0", b"MM\0+")


def exif_orientation(block: bytes) -> int:
    """1 if the pixels are stored upright, 2 to 8 if a viewer turns or mirrors them.

    An orientation that is missing or cannot be read counts as 1, as it does for viewers.
    """
    try:
        with quiet():
            directory = read_directory(block.removeprefix(b"Exif\0\0"))
            value = directory.get(ORIENTATION)
    except DamagedError:
        return 1
    return value if directory.tagtype.get(ORIENTATION) == SHORT and value in range(1, 9) else 1

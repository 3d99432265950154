"""What a TIFF, PNG or JPEG claims to hold and whether it is whole, found before any pixel is decoded.

A decoder trusts the header: it allocates as many pixels as the header claims, and libtiff leaves black what it cannot
decompress. Pillow reads the headers and compares PNG's checksums (CRC-32). What Pillow leaves to its decoders is
checked here: the claims against the size of the file, the strips and tiles of a TIFF, the Adler-32 of those in Deflate,
the end and the scans of a JPEG. JPEG, LZW, PackBits and uncompressed TIFF have no checksum: there, a flipped bit gives
other pixels, and only a digest of the file can tell.

Sources: TIFF 6.0 (sections 2, 3, 8 and 15), JPEG (ITU T.81, annex B), EXIF (CIPA DC-008, tag 274).
"""

import contextlib
import dataclasses
import io
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from PIL import ImageMode
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from unet_jax.errors import InputError

MAX_PIXELS = 2**28
# Deflate reaches 1032 bytes of pixels per byte of file, JPEG about 1400, LZW about 2700.
MAX_EXPANSION = 4096

SUFFIXES = {"TIFF": (".tif", ".tiff"), "PNG": (".png",), "JPEG": (".jpg", ".jpeg")}

ORIENTATION = 274
# What the checks below need.
TAGS = {
    256: "columns",
    257: "rows",
    258: "bits",
    259: "compression",
    262: "photometric",
    273: "starts",
    ORIENTATION: "orientation",
    277: "channels",
    278: "rows per strip",
    279: "lengths",
    284: "planar",
    322: "tile columns",
    323: "tile rows",
    324: "tile starts",
    325: "tile lengths",
    339: "numbers",
}
BYTE, SHORT, LONG = 1, 3, 4
NUMBERS = {1: "u", 2: "i", 3: "f"}
COMPRESSIONS = {1: "none", 5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"}
# The IEND chunk without its length: its checksum is always the same, and Pillow does not read it.
PNG_END = b"IEND\xaeB`\x82"
# Every scan of a progressive JPEG passes over all pixels; encoders write about ten.
MAX_SCANS = 100

Picture = TypeVar("Picture", PngImageFile, JpegImageFile)

_pillow_lock = threading.Lock()


class _DamagedError(Exception):
    """The file contradicts itself or its checksums."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What a picture's header claims.

    Attributes:
        kind: a key of SUFFIXES.
        rows: at least 1.
        columns: at least 1.
        channels: 1, 3 or 4; alpha counts as one.
        bits: per channel of a pixel: 1, 8, 16 or 32.
        number: the first letter of numpy's name of the type: u, i or f.
    """

    kind: str
    rows: int
    columns: int
    channels: int
    bits: int
    number: str = "u"

    @property
    def dtype(self) -> np.dtype:
        """The type of the pixels in memory; one bit takes a byte."""
        return np.dtype(f"{self.number}{max(1, self.bits // 8)}")

    @property
    def pixel_bytes(self) -> int:
        """Bytes that the pixels take in memory."""
        return self.rows * self.columns * self.channels * self.dtype.itemsize


def read_header(data: bytes) -> Header:
    """What the file claims to hold, after checking that it is whole.

    Raises:
        InputError: the file is not a TIFF, PNG or JPEG, is damaged, holds several pictures, claims more pixels than
            MAX_PIXELS or than its bytes can hold, cannot be read without changing its pixels (palette, CMYK, lossy
            TIFF), or asks viewers to turn or mirror it: a mask may have been drawn either way round. The message does
            not name the file.
    """
    if not data:
        raise InputError("the file is empty (0 bytes): restore it.")
    try:
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:3] == b"\xff\xd8\xff":
            return _jpeg(data)
    except (_DamagedError, zlib.error) as error:
        raise InputError(f"the file is damaged ({len(data)} bytes, {error}): restore it.") from error
    raise InputError(f"is not a TIFF, PNG or JPEG (its first bytes are {data[:8]!r}): restore or remove it.")


@contextlib.contextmanager
def _pillow() -> Iterator[None]:
    """Runs Pillow without warnings; whatever it raises becomes a _DamagedError.

    Pillow warns of oddities without naming the file, and a damaged file can make it raise nearly anything.
    """
    # Filters of warnings belong to the whole process: one thread at a time may replace and restore them.
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            raise _DamagedError(" ".join(str(error).split()) or type(error).__name__) from error


def _open(plugin: Callable[[io.BytesIO], Picture], file: io.BytesIO) -> Picture:
    """The picture, with its header read and no pixel decoded: Image.open would also refuse or warn by global limits."""
    try:
        with _pillow():
            picture = plugin(file)
            if not picture.tile:
                raise _DamagedError("it holds no pixels")
            return picture
    except _DamagedError as error:
        raise InputError(
            f"cannot be read ({len(file.getbuffer())} bytes, {error}): restore it, or save it as 8-bit grey or RGB."
        ) from error


def _tiff(data: bytes) -> Header:
    with _pillow():
        tags, more_pages = _tiff_tags(data)
    if more_pages:
        raise InputError("has more than one page: save each page as a file of its own.")
    rows, columns = _first(tags, "rows"), _first(tags, "columns")
    channels = _first(tags, "channels", 1)
    bits, numbers = tags.get("bits", (1,)), tags.get("numbers", (1,))
    if len(set(bits)) > 1 or len(set(numbers)) > 1 or numbers[0] not in NUMBERS:
        raise InputError("has channels of several or unusual types: save it with one type for all.")
    header = _header("TIFF", data, rows, columns, channels, bits[0], NUMBERS[numbers[0]])

    photometric = _first(tags, "photometric")
    if photometric == 3:
        raise InputError("has a palette: save it as grey or RGB.")
    if photometric not in (1, 2):
        raise InputError(f"is neither grey from black to white nor RGB (photometric {photometric}): save it as one.")
    _check_upright(_first(tags, "orientation", 1))
    if _first(tags, "planar", 1) == 2 and header.bits > 8 and header.channels > 1:  # OpenCV gives other pixels
        raise InputError(f"stores each channel of {header.bits} bits by itself: save it with interleaved channels.")
    compression = _first(tags, "compression", 1)
    if compression not in COMPRESSIONS:
        raise InputError(
            f"is a TIFF of compression {compression}: save it with {', '.join(sorted(set(COMPRESSIONS.values())))}."
        )
    _check_blocks(data, tags, header, deflate=COMPRESSIONS[compression] == "Deflate")
    return header


def _tiff_tags(data: bytes) -> tuple[dict[str, tuple[int, ...]], bool]:
    """The TAGS of the first page, and whether there are more pages."""
    directory = _directory(data)
    if directory.next is None:
        raise _DamagedError("its tags reach beyond its end")
    tags = {}
    for tag in _listed_tags(data, directory):
        if tag not in TAGS:
            continue
        # Which of two equal tags counts differs from decoder to decoder. Pillow leaves out tags that it cannot read.
        if TAGS[tag] in tags or directory.tagtype.get(tag) not in (BYTE, SHORT, LONG):
            raise _DamagedError(f"its tag {tag} is unusable")
        value = directory[tag]
        tags[TAGS[tag]] = tuple(value) if isinstance(value, tuple | bytes) else (value,)
    return tags, directory.next != 0


def _directory(data: bytes) -> ImageFileDirectory_v2:
    """The first directory of a TIFF, or of an EXIF block, which is laid out as one; `next` is None if cut off."""
    file = io.BytesIO(data)
    directory = ImageFileDirectory_v2(file.read(8))
    file.seek(directory.next)
    directory.next = None
    directory.load(file)
    return directory


def _listed_tags(data: bytes, directory: ImageFileDirectory_v2) -> list[int]:
    """The numbers of all tags of a TIFF's directory, also those that Pillow cannot read (TIFF 6.0, section 2)."""
    number = ">u2" if directory.prefix == b"MM" else "<u2"
    [count] = np.ndarray(1, number, data, directory.offset)
    return np.ndarray(count, number, data, directory.offset + 2, strides=(12,)).tolist()


def _first(tags: dict[str, tuple[int, ...]], name: str, default: int | None = None) -> int:
    if name not in tags and default is None:
        raise _DamagedError(f"it does not say its {name}")
    return tags.get(name, (default,))[0]


def _check_blocks(data: bytes, tags: dict[str, tuple[int, ...]], header: Header, deflate: bool) -> None:
    """Checks that each strip or tile lies in the file and, in Deflate, gives as many bytes as it must."""
    tiled = "tile columns" in tags
    columns = _first(tags, "tile columns", header.columns)
    rows = _first(tags, "tile rows") if tiled else min(_first(tags, "rows per strip", header.rows), header.rows)
    planes = header.channels if _first(tags, "planar", 1) == 2 else 1
    row_bytes = (columns * header.bits * header.channels // planes + 7) // 8
    if not 0 < rows * row_bytes <= MAX_EXPANSION * len(data):
        raise _DamagedError("its strips or tiles are of no possible size")
    down, across = -(-header.rows // rows), -(-header.columns // columns)
    # Rows that the last strip of a plane may leave out.
    missing = 0 if tiled else down * rows - header.rows

    prefix = "tile " if tiled else ""
    starts, lengths = (tags.get(prefix + name, ()) for name in ("starts", "lengths"))
    if not len(starts) == len(lengths) == down * across * planes:
        raise _DamagedError("it does not list its strips or tiles")
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        if start + length > len(data):
            raise _DamagedError("its pixels end too soon")
        if deflate:
            stream = zlib.decompressobj()
            # One byte more than fits: only then is the end of the stream reached, and its checksum.
            found = len(stream.decompress(data[start : start + length], rows * row_bytes + 1))
            last = number % down == down - 1
            if not stream.eof or found < (rows - missing * last) * row_bytes:
                raise _DamagedError("a strip or tile holds too few or too many pixels")


def _png(data: bytes) -> Header:
    picture = _open(PngImageFile, io.BytesIO(data))
    # What the file holds, such as "RGB;16B" or "L;4"; the mode is what Pillow would make of it.
    layout, _, depth = picture.tile[0].args.partition(";")
    if layout == "P":
        raise InputError("has a palette: save it as grey or RGB.")
    if picture.get_format_mimetype() == "image/apng":
        raise InputError("has more than one frame: save each frame as a file of its own.")
    # A transparent colour is decoded as one more channel.
    channels = len(ImageMode.getmode(layout).bands) + ("transparency" in picture.info)
    bits = 1 if layout == "1" else int(depth.removesuffix("B") or 8)
    header = _header("PNG", data, *picture.size[::-1], channels, bits)
    # Pillow reads a block behind the pixels only when it decodes them.
    _check_upright(_exif_orientation(picture.info.get("exif") or data.rpartition(b"eXIf")[2]))
    with _pillow():
        picture.verify()
    if PNG_END not in data:
        raise _DamagedError("its end is missing")
    return header


def _jpeg(data: bytes) -> Header:
    file = io.BytesIO(data)
    picture = _open(JpegImageFile, file)
    header = _header("JPEG", data, *picture.size[::-1], picture.layers, picture.bits)
    if header.channels == 4:
        raise InputError("is in inks (CMYK): save it as grey or RGB.")
    _check_upright(_exif_orientation(picture.info.get("exif", b"")))
    start = file.tell()  # of the first scan: Pillow reads up to there
    _check_segments(data[:start])
    if data.find(b"\xff\xd9", start) < 0:
        raise _DamagedError("its end is missing")
    if data.count(b"\xff\xda", start) > MAX_SCANS:
        raise _DamagedError(f"it has more than {MAX_SCANS} scans")
    return header


def _check_segments(head: bytes) -> None:
    """Checks that a JPEG's segments leave no gap: decoders skip it, even if it is a table whose marker is damaged."""
    position = 2
    while position < len(head):
        if head[position] != 0xFF:
            raise _DamagedError("a marker is missing")
        # Any number of bytes 0xFF may stand before a marker (T.81, B.1.1.2).
        fill = head[position + 1 : position + 2] == b"\xff"
        position += 1 if fill else 2 + int.from_bytes(head[position + 2 : position + 4], "big")


def _exif_orientation(block: bytes) -> int:
    """1 if the pixels are stored as they are to be shown, 2 to 8 if a viewer turns or mirrors them.

    What a block does not say in a way that can be read counts as 1, as it does for viewers.
    """
    try:
        with _pillow():
            directory = _directory(block.removeprefix(b"Exif\0\0"))
            value = directory.get(ORIENTATION)
    except _DamagedError:
        return 1
    return value if directory.tagtype.get(ORIENTATION) == SHORT and value in range(1, 9) else 1


def _check_upright(orientation: int) -> None:
    if orientation != 1:
        raise InputError(f"is stored turned or mirrored (orientation {orientation}): save it upright.")


def _header(kind: str, data: bytes, rows: int, columns: int, channels: int, bits: int, number: str = "u") -> Header:
    if not rows or not columns or not channels:
        raise InputError(f"the image has no pixel ({rows}x{columns}, {channels} channels): restore or remove it.")
    if channels not in (1, 3, 4):
        raise InputError(f"has {channels} channels: save it with 1 (grey), 3 (RGB) or 4 (RGB and alpha).")
    if bits not in (1, 8, 16, 32) or (number == "f" and bits < 32):
        raise InputError(f"has {bits} bits a channel: save it with 1, 8, 16 or 32.")
    header = Header(kind, rows, columns, channels, bits, number)
    if rows * columns > MAX_PIXELS:
        raise InputError(f"claims {rows}x{columns} pixels, and up to {MAX_PIXELS} are read: cut it up, or restore it.")
    if header.pixel_bytes > MAX_EXPANSION * len(data):
        raise InputError(f"claims {rows}x{columns} pixels, which {len(data)} bytes of file cannot hold: restore it.")
    return header

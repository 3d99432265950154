"""What a TIFF, PNG or JPEG claims to hold and whether it is whole, found before any pixel is decoded.

A decoder trusts the header: it allocates as many pixels as the header claims, and libtiff leaves black what it cannot
decompress. Pillow reads the headers and compares PNG's checksums (CRC-32). What Pillow leaves to its decoders is
checked here: the claims against the size of the file, the strips and tiles of a TIFF, the Adler-32 of those in Deflate,
the end and the scans of a JPEG. JPEG, LZW, PackBits and uncompressed TIFF have no checksum: there, a flipped bit gives
other pixels, and only a digest of the file can tell.

Sources: PNG (W3C, third edition), JPEG (ITU T.81, annex B).
"""

import dataclasses
import zlib

import numpy as np

from unet_jax.data.formats import tiff_tags
from unet_jax.data.formats.pillow import DamagedError, exif_orientation, open_picture, quiet
from unet_jax.data.formats.tiff_tags import first
from unet_jax.errors import InputError

MAX_PIXELS = 2**28
# Deflate reaches 1032 bytes of pixels per byte of file, JPEG about 1400, LZW about 2700.
MAX_EXPANSION = 4096

SUFFIXES = {"TIFF": (".tif", ".tiff"), "PNG": (".png",), "JPEG": (".jpg", ".jpeg")}

NUMBERS = {1: "u", 2: "i", 3: "f"}
COMPRESSIONS = {1: "none", 5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"}
# The IEND chunk without its length: its checksum is always the same, and Pillow does not read it.
PNG_END = b"IEND\xaeB`\x82"
# Every scan of a progressive JPEG passes over all pixels; encoders write about ten.
MAX_SCANS = 100


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
    except (DamagedError, zlib.error) as error:
        raise InputError(f"the file is damaged ({len(data)} bytes, {error}): restore it.") from error
    raise InputError(f"is not a TIFF, PNG or JPEG (its first bytes are {data[:8]!r}): restore or remove it.")


def _tiff(data: bytes) -> Header:
    tags, more_pages = tiff_tags.read(data)
    if more_pages:
        raise InputError("has more than one page: save each page as a file of its own.")
    rows, columns = first(tags, "rows"), first(tags, "columns")
    channels = first(tags, "channels", 1)
    bits, numbers = tags.get("bits", (1,)), tags.get("numbers", (1,))
    if len(set(bits)) > 1 or len(set(numbers)) > 1 or numbers[0] not in NUMBERS:
        raise InputError("has channels of several or unusual types: save it with one type for all.")
    header = _header("TIFF", data, rows, columns, channels, bits[0], NUMBERS[numbers[0]])

    photometric = first(tags, "photometric")
    if photometric == 3:
        raise InputError("has a palette: save it as grey or RGB.")
    if photometric not in (1, 2):
        raise InputError(f"is neither grey from black to white nor RGB (photometric {photometric}): save it as one.")
    _check_upright(first(tags, "orientation", 1))
    if first(tags, "planar", 1) == 2 and header.bits > 8 and header.channels > 1:  # OpenCV gives other pixels
        raise InputError(f"stores each channel of {header.bits} bits by itself: save it with interleaved channels.")
    compression = first(tags, "compression", 1)
    if compression not in COMPRESSIONS:
        raise InputError(
            f"is a TIFF of compression {compression}: save it with {', '.join(sorted(set(COMPRESSIONS.values())))}."
        )
    tiff_tags.check_blocks(data, tags, MAX_EXPANSION, deflate=COMPRESSIONS[compression] == "Deflate")
    return header


def _png(data: bytes) -> Header:
    from PIL import ImageMode
    from PIL.PngImagePlugin import PngImageFile

    picture = open_picture(PngImageFile, data)
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
    _check_upright(exif_orientation(picture.info.get("exif") or data.rpartition(b"eXIf")[2]))
    with quiet():
        picture.verify()
    if PNG_END not in data:
        raise DamagedError("its end is missing")
    return header


def _jpeg(data: bytes) -> Header:
    from PIL.JpegImagePlugin import JpegImageFile

    picture = open_picture(JpegImageFile, data)
    header = _header("JPEG", data, *picture.size[::-1], picture.layers, picture.bits)
    if header.channels == 4:
        raise InputError("is in inks (CMYK): save it as grey or RGB.")
    _check_upright(exif_orientation(picture.info.get("exif", b"")))
    start = picture.fp.tell()  # of the first scan: Pillow reads up to there
    _check_segments(data[:start])
    if data.find(b"\xff\xd9", start) < 0:
        raise DamagedError("its end is missing")
    if data.count(b"\xff\xda", start) > MAX_SCANS:
        raise DamagedError(f"it has more than {MAX_SCANS} scans")
    return header


def _check_segments(head: bytes) -> None:
    """Checks that a JPEG's segments leave no gap: decoders skip it, even if it is a table whose marker is damaged."""
    position = 2
    while position < len(head):
        if head[position] != 0xFF:
            raise DamagedError("a marker is missing")
        # Any number of bytes 0xFF may precede a marker (B.1.1.2).
        fill = head[position + 1 : position + 2] == b"\xff"
        position += 1 if fill else 2 + int.from_bytes(head[position + 2 : position + 4], "big")


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

"""What a picture claims to hold and whether it is whole, found before any pixel is decoded.

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
from unet_jax.data.formats.pillow import DamagedError, exif_orientation, is_big, open_picture, quiet
from unet_jax.data.formats.tiff_tags import first
from unet_jax.errors import InputError
from unet_jax.wording import count

MAX_PIXELS = 2**28
# Of all pages of a file together.
MAX_STACK = 2**29
# Deflate reaches 1032 bytes of pixels per byte of file, JPEG about 1400, LZW about 2700.
MAX_EXPANSION = 4096

SUFFIXES = {"TIFF": (".tif", ".tiff"), "PNG": (".png",), "JPEG": (".jpg", ".jpeg")}

NUMBERS = {1: "u", 2: "i", 3: "f"}
COMPRESSIONS = {1: "none", 5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"}
# Of faxes, for one bit a pixel: CCITT's run lengths, T.4 and T.6.
FAX = (2, 3, 4)
WHITE_IS_ZERO, PALETTE = 0, 3
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
        palette: whether the pixels are numbers of colours in a table; they then have one channel of 8 bits.
        by_pillow: whether Pillow decodes the pixels, because OpenCV cannot or would change them.
    """

    kind: str
    rows: int
    columns: int
    channels: int
    bits: int
    number: str = "u"
    palette: bool = False
    by_pillow: bool = False

    @property
    def dtype(self) -> np.dtype:
        """The type of the pixels in memory; one bit takes a byte."""
        return np.dtype(f"{self.number}{max(1, self.bits // 8)}")

    @property
    def pixel_bytes(self) -> int:
        """Bytes that the pixels take in memory."""
        return self.rows * self.columns * self.channels * self.dtype.itemsize


def read_header(data: bytes) -> Header:
    """What a file of one picture of grey or colours claims to hold, after checking that it is whole.

    Raises:
        InputError: the file has several pages, or a palette; or as `read_headers`.
    """
    header, *more = read_headers(data)
    if more:
        raise InputError("has more than one page: save each page as a file of its own.")
    if header.palette:
        raise InputError("has a palette: save it as grey or RGB.")
    return header


def read_headers(data: bytes) -> list[Header]:
    """What each page of the file claims to hold, after checking that it is whole; only a TIFF may have several.

    Raises:
        InputError: the file is not a TIFF, PNG or JPEG, is damaged, claims more pixels than MAX_PIXELS or than its
            bytes can hold, cannot be read without changing its pixels (CMYK, lossy TIFF), or asks viewers to turn or
            mirror it: a mask may have been drawn either way round. The message does not name the file.
    """
    if not data:
        raise InputError("the file is empty (0 bytes): restore it.")
    try:
        if data[:4] in (b"II*\0", b"MM\0*") or is_big(data):
            return _pages(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return [_png(data)]
        if data[:3] == b"\xff\xd8\xff":
            return [_jpeg(data)]
    except (DamagedError, zlib.error) as error:
        raise InputError(f"the file is damaged ({len(data):,} bytes, {error}): restore it.") from error
    raise InputError(f"is not a TIFF, PNG or JPEG (its first bytes are {data[:8]!r}): restore or remove it.")


def _pages(data: bytes) -> list[Header]:
    headers, pixels, in_memory = [], 0, 0
    for tags in tiff_tags.read(data):
        headers.append(_tiff(data, tags))
        pixels += headers[-1].rows * headers[-1].columns
        in_memory += headers[-1].pixel_bytes
        if pixels > MAX_STACK:
            raise InputError(f"claims more than {MAX_STACK:,} pixels on its pages: cut it up, or restore it.")
        if in_memory > MAX_EXPANSION * len(data):  # pages may share their pixels' bytes
            raise InputError(f"claims more pixels on its pages than {len(data):,} bytes of file can hold: restore it.")
    return headers


def _tiff(data: bytes, tags: tiff_tags.Tags) -> Header:
    rows, columns = first(tags, "rows"), first(tags, "columns")
    channels = first(tags, "channels", 1)
    bits, numbers = tags.get("bits", (1,)), tags.get("numbers", (1,))
    if len(set(bits)) > 1 or len(set(numbers)) > 1 or numbers[0] not in NUMBERS:
        raise InputError("has channels of several or unusual types: save it with one type for all.")
    photometric, compression = first(tags, "photometric"), first(tags, "compression", 1)
    palette = photometric == PALETTE and channels == 1 and bits[0] <= 8
    header = checked("TIFF", data, rows, columns, channels, 8 if palette else bits[0], NUMBERS[numbers[0]])
    # OpenCV multiplies colours by an alpha that stands apart from them, and fails at plain tiles of 8 bits.
    alpha_apart = header.bits == 8 and channels == 4 and tags.get("extra samples") == (2,)
    plain_tiles = header.bits == 8 and "tile rows" in tags and compression == 1
    from_white = photometric == WHITE_IS_ZERO and header.bits == 1 and channels == 1
    by_pillow = palette or alpha_apart or plain_tiles or from_white
    header = dataclasses.replace(header, palette=palette, by_pillow=by_pillow)

    if photometric not in (1, 2) and not palette and not from_white:
        raise InputError(f"is neither grey from black to white nor RGB (photometric {photometric}): save it as one.")
    _check_upright(first(tags, "orientation", 1))
    if first(tags, "planar", 1) == 2 and header.bits > 8 and header.channels > 1:  # OpenCV gives other pixels
        raise InputError(f"stores each channel of {header.bits} bits by itself: save it with interleaved channels.")
    if compression not in COMPRESSIONS and not (compression in FAX and header.bits == 1 and channels == 1):
        raise InputError(
            f"is a TIFF of compression {compression}: save it with {', '.join(sorted(set(COMPRESSIONS.values())))}."
        )
    tiff_tags.check_blocks(data, tags, MAX_EXPANSION, deflate=COMPRESSIONS.get(compression) == "Deflate")
    return header


def _png(data: bytes) -> Header:
    from PIL import ImageMode
    from PIL.PngImagePlugin import PngImageFile

    picture = open_picture(PngImageFile, data)
    # What the file holds, such as "RGB;16B" or "L;4"; the mode is what Pillow would make of it.
    layout, _, depth = picture.tile[0].args.partition(";")
    if picture.get_format_mimetype() == "image/apng":
        raise InputError("has more than one frame: save each frame as a file of its own.")
    # A transparent colour is decoded as one more channel.
    palette = layout == "P"
    channels = 1 if palette else len(ImageMode.getmode(layout).bands) + ("transparency" in picture.info)
    bits = 1 if layout == "1" else 8 if palette else int(depth.removesuffix("B") or 8)
    header = checked("PNG", data, *picture.size[::-1], channels, bits)
    header = dataclasses.replace(header, palette=palette, by_pillow=palette)
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
    header = checked("JPEG", data, *picture.size[::-1], picture.layers, picture.bits)
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


def checked(
    kind: str,
    data: bytes,
    rows: int,
    columns: int,
    channels: int,
    bits: int,
    number: str = "u",
    *,
    expansion: int = MAX_EXPANSION,
) -> Header:
    """A header, after checking that a file of these bytes can hold what it claims.

    Raises:
        InputError: it cannot, or pixels of this sort are not read. The message does not name the file.
    """
    if not rows or not columns or not channels:
        raise InputError(
            f"the image has no pixel ({rows}x{columns}, {count(channels, 'channel')}): restore or remove it."
        )
    if channels not in (1, 3, 4):
        raise InputError(f"has {count(channels, 'channel')}: save it with 1 (grey), 3 (RGB) or 4 (RGB and alpha).")
    if bits not in (1, 8, 16, 32) or (number == "f" and bits < 32):
        raise InputError(f"has {bits} bits a channel: save it with 1, 8, 16 or 32.")
    header = Header(kind, rows, columns, channels, bits, number)
    if rows * columns > MAX_PIXELS:
        raise InputError(
            f"claims {rows}x{columns} pixels, and up to {MAX_PIXELS:,} are read: cut it up, or restore it."
        )
    if header.pixel_bytes > expansion * len(data):
        raise InputError(f"claims {rows}x{columns} pixels, which {len(data):,} bytes of file cannot hold: restore it.")
    return header

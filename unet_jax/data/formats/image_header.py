"""What a TIFF, PNG or JPEG claims and whether it is whole, found before anything is decoded.

A decoder believes a file's header: it sets memory aside for as many pixels as the header claims, and libtiff leaves
black what it cannot decompress. So the claims are read here, in bounded time and memory, and checksums are compared
where the format has them: PNG everywhere (CRC-32), TIFF with Deflate (Adler-32). JPEG, LZW, PackBits and
uncompressed TIFF have none: there, one flipped bit gives other pixels and only a digest of the file can tell.

Sources: TIFF 6.0 (sections 2, 3, 8 and 15), PNG (W3C, third edition, chapters 5 and 11), JPEG (ITU T.81, annex B).
"""

import dataclasses
import struct
import zlib

import numpy as np

from unet_jax.data.formats import exif
from unet_jax.errors import InputError

MAX_PIXELS = 2**28
# Deflate reaches 1032 bytes of pixels a byte of file, JPEG about 1400, LZW about 2700.
MAX_EXPANSION = 4096

SUFFIXES = {"TIFF": (".tif", ".tiff"), "PNG": (".png",), "JPEG": (".jpg", ".jpeg")}

TAGS = {
    256: "columns",
    257: "rows",
    258: "bits",
    259: "compression",
    262: "photometric",
    273: "starts",
    274: "orientation",
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
TAG_KINDS = {1: "B", 3: "H", 4: "I"}
NUMBERS = {1: "u", 2: "i", 3: "f"}
COMPRESSIONS = {1: "none", 5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"}
# The first letter of a PNG's pixel type: grey, RGB, grey with alpha, RGB with alpha; 3 is a palette.
PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
# Every scan of a progressive JPEG passes over all pixels; encoders write about ten.
MAX_SCANS = 100


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
        bits: of one channel of one pixel: 1, 8, 16 or 32.
        number: the first letter of numpy's name for the type: u, i or f.
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
        InputError: the file is no TIFF, PNG or JPEG, is damaged, holds several pictures, claims more pixels than
            MAX_PIXELS or than its bytes can hold, or is of a sort that cannot be read without changing its pixels
            (palette, CMYK, lossy TIFF), or asks viewers to turn or mirror it: a mask may have been drawn either way
            round. The message does not name the file.
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
    except (_DamagedError, struct.error, zlib.error) as error:
        raise InputError(f"the file is damaged ({len(data)} bytes, {error}): restore it.") from error
    raise InputError(f"is no TIFF, PNG or JPEG (its first bytes are {data[:8]!r}): restore or remove it.")


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    tags, more_pages = _tiff_tags(data, order)
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
    compression = _first(tags, "compression", 1)
    if compression not in COMPRESSIONS:
        raise InputError(
            f"is a TIFF of compression {compression}: save it with {', '.join(sorted(set(COMPRESSIONS.values())))}."
        )
    _check_blocks(data, tags, header, deflate=COMPRESSIONS[compression] == "Deflate")
    return header


def _tiff_tags(data: bytes, order: str) -> tuple[dict[str, tuple[int, ...]], bool]:
    """The TAGS of the first page, and whether there are more pages; `order` is struct's sign for the byte order."""
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    end = directory + 2 + 12 * entries
    (next_directory,) = struct.unpack_from(f"{order}I", data, end)
    tags = {}
    for position in range(directory + 2, end, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, position)
        if tag not in TAGS:
            continue
        # Which of two equal tags counts differs from decoder to decoder.
        if kind not in TAG_KINDS or not count or TAGS[tag] in tags:
            raise _DamagedError(f"its tag {tag} is unusable")
        letters = f"{order}{count}{TAG_KINDS[kind]}"
        position += 8
        if struct.calcsize(letters) > 4:
            (position,) = struct.unpack_from(f"{order}I", data, position)
        tags[TAGS[tag]] = struct.unpack_from(letters, data, position)
    return tags, bool(next_directory)


def _first(tags: dict[str, tuple[int, ...]], name: str, default: int | None = None) -> int:
    if name not in tags and default is None:
        raise _DamagedError(f"it does not say its {name}")
    return tags.get(name, (default,))[0]


def _check_blocks(data: bytes, tags: dict[str, tuple[int, ...]], header: Header, deflate: bool) -> None:
    """Whether each strip or tile lies in the file and, of Deflate, gives as many bytes as it must."""
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
    chunks, position, kind = {}, 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        if zlib.crc32(memoryview(data)[position + 4 : position + 8 + length]) != checksum:
            raise _DamagedError("a checksum fails")
        kept = length if kind == b"eXIf" else min(length, 13)
        chunks.setdefault(kind, data[position + 8 : position + 8 + kept])
        position += 12 + length
    if next(iter(chunks)) != b"IHDR" or b"IDAT" not in chunks:
        raise _DamagedError("it has no header or no pixels")
    columns, rows, bits, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    if colour == 3:
        raise InputError("has a palette: save it as grey or RGB.")
    if colour not in PNG_CHANNELS:
        raise _DamagedError(f"there is no type of colour {colour}")
    if b"acTL" in chunks:
        raise InputError("has more than one frame: save each frame as a file of its own.")
    _check_upright(exif.orientation(chunks.get(b"eXIf", b"")))
    # A transparent colour is decoded as one more channel.
    return _header("PNG", data, rows, columns, PNG_CHANNELS[colour] + (b"tRNS" in chunks), bits)


def _jpeg(data: bytes) -> Header:
    header, position = None, 2
    while True:
        marker, code, length = struct.unpack_from(">BBH", data, position)
        if marker != 0xFF:
            raise _DamagedError("a marker is missing")
        if code in (0xC0, 0xC1, 0xC2):
            bits, rows, columns, channels = struct.unpack_from(">BHHB", data, position + 4)
            header = _header("JPEG", data, rows, columns, channels, bits)
        if code == 0xE1 and data.startswith(b"Exif\0\0", position + 4):
            _check_upright(exif.orientation(data[position + 10 : position + 2 + length]))
        position += 2 + length
        if code == 0xDA:
            break
    if header is None:
        raise _DamagedError("it has no header of a sort that can be read")
    if header.channels == 4:
        raise InputError("is in inks (CMYK): save it as grey or RGB.")
    if data.find(b"\xff\xd9", position) < 0:
        raise _DamagedError("its end is missing")
    if data.count(b"\xff\xda", position) > MAX_SCANS:
        raise _DamagedError(f"it has more than {MAX_SCANS} scans")
    return header


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

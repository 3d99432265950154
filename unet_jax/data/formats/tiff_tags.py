"""The tags of a TIFF, and whether they describe pixels that the file holds.

Sources: TIFF 6.0, sections 2, 3, 8 and 15; BigTIFF (libtiff, "The BigTIFF File Format").
"""

import zlib
from typing import TYPE_CHECKING

import numpy as np

from unet_jax.data.formats.pillow import DamagedError, is_big, quiet, read_directory

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

# The values of each tag by its name in NAMES.
Tags = dict[str, tuple[int, ...]]

NAMES = {
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
    338: "extra samples",
    339: "numbers",
}
BYTE, SHORT, LONG, LONG8 = 1, 3, 4, 16
# No volume has as many slices.
MAX_PAGES = 2**16


def read(data: bytes) -> list[Tags]:
    """The tags of NAMES of each page, in order.

    Raises:
        DamagedError: the tags cannot be read, or one of NAMES is not made of whole numbers or is there twice; or the
            pages lead back to each other.
    """
    with quiet():
        tags, start = _read(data)
        pages, seen = [tags], {0}
        while start:
            if start in seen or len(pages) == MAX_PAGES:
                raise DamagedError("its pages have no end")
            seen.add(start)
            tags, start = _read(data, start)
            pages.append(tags)
        return pages


def _read(data: bytes, start: int | None = None) -> tuple[Tags, int]:
    """The tags of a page, and where the next begins, 0 after the last."""
    directory = read_directory(data, start)
    if directory.next is None:
        raise DamagedError("its tags reach beyond its end")
    tags = {}
    for tag in _listed_tags(data, directory):
        if tag not in NAMES:
            continue
        # Which of two equal tags counts differs from decoder to decoder. Pillow leaves out tags that it cannot read.
        if NAMES[tag] in tags or directory.tagtype.get(tag) not in (BYTE, SHORT, LONG, LONG8):
            raise DamagedError(f"its tag {tag} is unusable")
        value = directory[tag]
        tags[NAMES[tag]] = tuple(value) if isinstance(value, tuple | bytes) else (value,)
    return tags, directory.next


def _listed_tags(data: bytes, directory: "ImageFileDirectory_v2") -> list[int]:
    """The numbers of all tags of a directory, including those that Pillow cannot read (section 2)."""
    order = ">" if directory.prefix == b"MM" else "<"
    counted, entry = ("u8", 20) if is_big(data) else ("u2", 12)
    [count] = np.ndarray(1, order + counted, data, directory.offset)
    return np.ndarray(
        count, order + "u2", data, directory.offset + np.dtype(counted).itemsize, strides=(entry,)
    ).tolist()


def first(tags: Tags, name: str, default: int | None = None) -> int:
    """The first value of a tag.

    Raises:
        DamagedError: the tag is missing and has no default.
    """
    if name not in tags and default is None:
        raise DamagedError(f"it does not say its {name}")
    return tags.get(name, (default,))[0]


def check_blocks(data: bytes, tags: Tags, max_expansion: int, deflate: bool) -> None:
    """Checks that each strip or tile lies in the file and, in Deflate, gives as many bytes as it must.

    Args:
        data: the file's bytes.
        tags: as `read` returns them; width and height are at least 1.
        max_expansion: how many bytes of pixels a byte of the file can hold.
        deflate: whether the pixels are compressed so.

    Raises:
        DamagedError: they do not.
    """
    tiled = "tile columns" in tags
    height, channels = first(tags, "rows"), first(tags, "channels", 1)
    columns = first(tags, "tile columns", first(tags, "columns"))
    rows = first(tags, "tile rows") if tiled else min(first(tags, "rows per strip", height), height)
    planes = channels if first(tags, "planar", 1) == 2 else 1
    row_bytes = (columns * first(tags, "bits", 1) * channels // planes + 7) // 8
    if not 0 < rows * row_bytes <= max_expansion * len(data):
        raise DamagedError("its strips or tiles are of no possible size")
    down, across = -(-height // rows), -(-first(tags, "columns") // columns)
    # Rows that the last strip of a plane may leave out.
    missing = 0 if tiled else down * rows - height

    prefix = "tile " if tiled else ""
    starts, lengths = (tags.get(prefix + name, ()) for name in ("starts", "lengths"))
    if not len(starts) == len(lengths) == down * across * planes:
        raise DamagedError("it does not list its strips or tiles")
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        if start + length > len(data):
            raise DamagedError("its pixels end too soon")
        if deflate:
            stream = zlib.decompressobj()
            # One byte more than fits: only then is the end of the stream reached, and its checksum.
            found = len(stream.decompress(data[start : start + length], rows * row_bytes + 1))
            last = number % down == down - 1
            if not stream.eof or found < (rows - missing * last) * row_bytes:
                raise DamagedError("a strip or tile holds too few or too many pixels")

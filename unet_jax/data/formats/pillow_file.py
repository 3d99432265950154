"""GIF, BMP and WebP, palettes, and the TIFFs that OpenCV decodes wrongly: pixels by Pillow."""

import io
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from unet_jax.data.formats.image_header import MAX_EXPANSION, MAX_PIXELS, checked
from unet_jax.data.formats.pillow import DamagedError, open_picture, quiet
from unet_jax.data.names import shown
from unet_jax.errors import InputError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

SUFFIXES = {"GIF": ".gif", "BMP": ".bmp", "WebP": ".webp"}
# Of a pixel, by Pillow's modes: channels and bits.
MODES = {"1": (1, 1), "L": (1, 8), "P": (1, 8), "RGB": (3, 8), "RGBA": (4, 8)}


def decode(data: bytes, name: PurePath | str, *, mask: bool = False) -> UInt8[np.ndarray, "1 h w c"]:
    """The pixels of a GIF, BMP or WebP of one frame; lossy WebP is read too.

    Args:
        data: the file's bytes.
        name: the file's name, for messages; its suffix must match the content.
        mask: see `pixels_of`.

    Raises:
        InputError: the file is not such a picture, is damaged, has several frames or claims too many pixels.
    """
    try:
        kind = _kind(data)
        suffix = PurePath(name).suffix.lower()
        if suffix != SUFFIXES[kind]:
            raise InputError(f"is a {kind} and its name ends in {suffix!r}: rename or convert it.")
        pixels = _pixels(kind, data, mask)
    except DamagedError as error:
        mistake = f"the file is damaged ({len(data):,} bytes, {error}): restore it, or save it as PNG."
        raise InputError(f"{shown(name)}: {mistake}") from error
    except InputError as error:
        raise InputError(f"{shown(name)}: {error}") from error
    return pixels[None] if pixels.ndim == 3 else pixels[None, ..., None]


def decode_pages(kind: str, data: bytes, pages: int, mask: bool = False) -> list[np.ndarray]:
    """The pixels of each page of a TIFF, or of a PNG, whose headers were checked, as `pixels_of` has them.

    Raises:
        InputError: the file is damaged. The message does not name it.
    """
    try:
        picture = _opened(kind, data)
        found = []
        for page in range(pages):
            with quiet():
                if page:
                    picture.seek(page)
                found.append(pixels_of(picture, mask))
        return found
    except DamagedError as error:
        raise InputError(f"the file is damaged ({len(data):,} bytes, {error}): restore it.") from error


def pixels_of(picture: "ImageFile", mask: bool) -> np.ndarray:
    """The pixels of an open picture: [rows, columns], or channels last; one bit becomes 0 and 255.

    Of a palette, an image has the colours, or one channel where all of them are grey. A mask has the numbers of the
    colours, which stand for classes, unless the palette holds black and white alone: then 0 and 255.
    """
    pixels = np.array(picture)
    if picture.mode == "1":
        return pixels * np.uint8(255)
    if picture.mode != "P":
        return pixels
    palette = np.zeros((256, 3), np.uint8)
    colours = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    grey = bool((palette == palette[:, :1]).all())
    if mask and not (grey and np.isin(palette, (0, 255)).all()):
        return pixels
    return palette[pixels, 0] if grey else palette[pixels]


def _pixels(kind: str, data: bytes, mask: bool) -> np.ndarray:
    if kind == "WebP":
        _check_webp(data)
    picture = _opened(kind, data)
    if getattr(picture, "n_frames", 1) > 1:
        raise InputError("has more than one frame: save each frame as a file of its own.")
    if picture.mode not in MODES:
        raise InputError(f"has pixels of an unusual sort ({picture.mode}): save it as 8-bit grey or RGB.")
    # A WebP of one colour needs no byte for its pixels.
    expansion = MAX_PIXELS if kind == "WebP" else MAX_EXPANSION
    checked(kind, data, *picture.size[::-1], *MODES[picture.mode], expansion=expansion)
    with quiet():
        return pixels_of(picture, mask)


def _kind(data: bytes) -> str:
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:2] == b"BM":
        return "BMP"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if not data:
        raise InputError("the file is empty (0 bytes): restore it.")
    raise InputError(f"is not a GIF, BMP or WebP (its first bytes are {data[:8]!r}): restore or remove it.")


def _opened(kind: str, data: bytes) -> "ImageFile":
    from PIL import BmpImagePlugin, GifImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    if kind == "WebP":  # its plugin has no tiles
        with quiet():
            return WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    plugins = {
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }
    return open_picture(plugins[kind], data)


def _check_webp(data: bytes) -> None:
    """Checks a WebP's size (RFC 9649, 2.5 to 2.7), because opening it already sets memory aside for its pixels."""
    chunk, head = data[12:16], data[20:30]
    if len(head) < 10:
        raise DamagedError("it ends too soon")
    if chunk == b"VP8X":
        columns, rows = (1 + int.from_bytes(head[start : start + 3], "little") for start in (4, 7))
    elif chunk == b"VP8L":
        sizes = int.from_bytes(head[1:5], "little")
        columns, rows = 1 + sizes % 2**14, 1 + (sizes >> 14) % 2**14
    else:
        columns, rows = (int.from_bytes(head[start : start + 2], "little") % 2**14 for start in (6, 8))
    checked("WebP", data, rows, columns, 4, 8, expansion=MAX_PIXELS)

"""What Pillow is trusted with, and what it is not; `tests/data/test_malformed.py` has the rest of what is refused."""

import concurrent.futures
import contextlib
import io
import re
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from unet_jax.data.formats.image_file import decode_image
from unet_jax.data.formats.image_header import Header, read_header
from unet_jax.errors import InputError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (16, 24, 3), np.uint8)
GREY = Image.fromarray(COLOUR[..., 0])
RGB = Image.fromarray(COLOUR)


def _saved(kind, picture=RGB, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(colour, bits, samples, *chunks):
    """A PNG of random pixels of any colour type and depth (W3C, table 8), 16 rows of 24."""
    rows = b"".join(b"\0" + RANDOM.bytes(24 * samples * bits // 8) for _ in range(16))
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 16, bits, colour, 0, 0, 0))
    end = _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + end


def _refused(data, line):
    with pytest.raises(InputError) as caught:
        read_header(data)
    assert re.fullmatch(re.escape(line).replace(r"\*", ".*"), str(caught.value)), caught.value


PALETTE = "has a palette: save it as grey or RGB."
TRANSPARENT = "has 2 channels: save it with 1 (grey), 3 (RGB) or 4 (RGB and alpha)."


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (_png(0, 1, 1), (1, 1)),
        (_png(0, 2, 1), "has 2 bits a channel: save it with 1, 8, 16 or 32."),
        (_png(0, 4, 1), "has 4 bits a channel: save it with 1, 8, 16 or 32."),
        (_png(0, 8, 1), (1, 8)),
        (_png(0, 16, 1), (1, 16)),
        (_png(0, 8, 1, _chunk(b"tRNS", bytes(2))), TRANSPARENT),
        (_png(2, 8, 3), (3, 8)),
        (_png(2, 16, 3), (3, 16)),
        (_png(2, 8, 3, _chunk(b"tRNS", bytes(6))), (4, 8)),
        (_png(3, 8, 1, _chunk(b"PLTE", bytes(768))), PALETTE),
        (_png(3, 1, 1, _chunk(b"PLTE", bytes(6))), PALETTE),
        (_png(4, 8, 2), TRANSPARENT),
        (_png(4, 16, 2), TRANSPARENT),
        (_png(6, 8, 4), (4, 8)),
        (_png(6, 16, 4), (4, 16)),
        (_png(5, 8, 3), "cannot be read (* bytes, *): restore it, or save it as 8-bit grey or RGB."),
        (
            _saved("PNG", save_all=True, append_images=[GREY]),
            "has more than one frame: save each frame as a file of its own.",
        ),
        (_saved("JPEG", GREY), (1, 8)),
        (_saved("JPEG", progressive=True), (3, 8)),
        (_saved("JPEG", RGB.convert("CMYK")), "is in inks (CMYK): save it as grey or RGB."),
        (
            _saved("JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
            "cannot be read (* bytes, cannot handle 12-bit layers): restore it, or save it as 8-bit grey or RGB.",
        ),
    ],
)
def test_colours_and_depths(data, expected):
    if isinstance(expected, str):
        _refused(data, expected)
    else:
        kind = "PNG" if data[1:4] == b"PNG" else "JPEG"
        assert read_header(data) == Header(kind, 16, 24, *expected)
        channels = () if expected[0] == 1 else expected[:1]
        assert decode_image(data, f"a.{kind.lower()}").shape == (16, 24, *channels)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_of_a_tiff_keep_their_type_and_the_order_of_their_channels(dtype, channels):
    """OpenCV alone turns red and blue around, and cannot turn signed ones back with cvtColor."""
    pixels = RANDOM.bytes(16 * 24 * channels * np.dtype(dtype).itemsize)
    pixels = np.frombuffer(pixels, dtype).reshape(16, 24, channels)
    stored = pixels[..., [2, 1, 0, 3][:channels]] if channels > 1 else pixels
    found = decode_image(cv2.imencode(".tif", stored)[1].tobytes(), "a.tif")
    assert found.shape == (pixels.shape if channels > 1 else pixels.shape[:2])
    assert (found.dtype, found.tobytes()) == (pixels.dtype, pixels.tobytes())


def test_limits_and_settings_of_pillow_are_not_ours(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for kind in ("PNG", "JPEG", "TIFF"):
        assert decode_image(_saved(kind), f"a.{kind.lower()}").shape == COLOUR.shape


def test_a_photo_of_several_pictures_is_its_first():
    """Phones append others to a JPEG, such as one for depth; Image.open would call it an MPO."""
    several = _saved("MPO", save_all=True, append_images=[GREY])
    assert Image.open(io.BytesIO(several)).format == "MPO"
    assert decode_image(several, "a.jpg").shape == COLOUR.shape


def test_text_of_more_than_pillow_reads_is_refused_by_what_it_is():
    text = PngInfo()
    text.add_text("Comment", "x" * 2**21, zip=True)
    _refused(_saved("PNG", pnginfo=text), "cannot be read (*, Decompressed data too large for *MAX_TEXT_CHUNK): *")


@pytest.mark.parametrize("cut", [1, 4, 5, 12, 13])
def test_a_png_without_its_last_bytes_is_refused(cut):
    _refused(_saved("PNG")[:-cut], "the file is damaged (*): restore it.")


def test_a_table_of_a_jpeg_that_decoders_would_skip_is_noticed():
    whole = _saved("JPEG")
    for code in (b"\xff\xdb", b"\xff\xc4"):
        _refused(whole.replace(code, b"\xfe" + code[1:]), "the file is damaged (*, a marker is missing): restore it.")
    np.testing.assert_array_equal(
        decode_image(whole.replace(b"\xff\xdb", b"\xff\xff\xff\xdb"), "a.jpg"), decode_image(whole, "a.jpg")
    )


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), UserWarning("a\nb"), AssertionError()])
def test_whatever_pillow_raises_is_one_line(error, monkeypatch):
    def load(directory, file):
        raise error

    monkeypatch.setattr(ImageFileDirectory_v2, "load", load)
    reason = " ".join(str(error).split()) or type(error).__name__
    _refused(_saved("TIFF"), f"the file is damaged (* bytes, {reason}): restore it.")


def test_warnings_of_pillow_are_not_shown_and_all_others_still_are(recwarn):
    """Pillow warns of a TIFF that gives its number of channels twice in one tag, and of one that is cut off."""
    whole = _saved("TIFF")
    odd = whole.replace(struct.pack("<HHI", 277, 3, 1), struct.pack("<HHI", 277, 3, 2))
    cut = whole[:60]
    for data, message in ((odd, "too many entries"), (cut, "Corrupt|Truncated")):
        with pytest.warns(UserWarning, match=message), contextlib.suppress(Image.UnidentifiedImageError):
            Image.open(io.BytesIO(data))
    recwarn.clear()
    before = list(warnings.filters)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read_header, [odd] * 200)) == {read_header(whole)}
    _refused(cut, "the file is damaged (*): restore it.")
    assert warnings.filters == before
    assert not recwarn.list

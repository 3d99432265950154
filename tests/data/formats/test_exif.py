"""Pictures whose EXIF asks viewers to turn or mirror them are refused; other EXIF changes nothing."""

import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from unet_jax.data.formats.image_file import decode_image
from unet_jax.errors import InputError

ORIENTATION, MAKER, SOFTWARE = ExifTags.Base.Orientation, ExifTags.Base.Make, ExifTags.Base.Software
ASCII, SHORT, LONG = 2, 3, 4
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)


def _block(order, *entries):
    """A directory of (tag, kind, count, value) as EXIF lays it out, without what follows it."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    packed = b"".join(struct.pack(f"{order}HHIHxx", *entry) for entry in entries)
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + packed


def _picture(kind, block):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, exif=b"Exif\0\0" + block if block else b"")
    return file.getvalue()


def _refusal(kind, value):
    line = rf"^a\.{kind.lower()}: is stored turned or mirrored \(orientation {value}\): save it upright\.$"
    return pytest.raises(InputError, match=line)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("value", range(2, 9))
def test_a_picture_that_asks_to_be_turned_is_refused(kind, order, value):
    block = _block(order, (MAKER, SHORT, 1, 5), (ORIENTATION, SHORT, 1, value), (SOFTWARE, SHORT, 1, 7))
    with _refusal(kind, value):
        decode_image(_picture(kind, block), f"a.{kind.lower()}")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    "block",
    [
        b"Exif",
        bytes(40),
        _block("<"),
        _block("<", (MAKER, SHORT, 1, 6)),
        _block("<", (ORIENTATION, SHORT, 1, 1)),
        _block(">", (MAKER, SHORT, 1, 5), (ORIENTATION, SHORT, 1, 1)),
        _block("<", (ORIENTATION, SHORT, 1, 0)),
        _block(">", (ORIENTATION, SHORT, 1, 9)),
        _block(">", (ORIENTATION, ASCII, 1, 6)),
        _block("<", (ORIENTATION, LONG, 1, 6)),
        _block("<", (MAKER, SHORT, 1, 6), (ORIENTATION, SHORT, 1, 6))[:-4],
        b"II*\0\xff\xff\xff\xff",
    ],
)
def test_what_says_nothing_leaves_the_pixels_as_they_are(kind, block):
    plain = decode_image(_picture(kind, b""), f"a.{kind.lower()}")
    np.testing.assert_array_equal(decode_image(_picture(kind, block), f"a.{kind.lower()}"), plain)
    assert plain.shape == PIXELS.shape
    assert kind == "JPEG" or (plain == PIXELS).all()


def test_a_png_may_hold_its_exif_behind_the_pixels():
    whole = _picture("PNG", _block("<", (ORIENTATION, SHORT, 1, 6)))
    start = whole.index(b"eXIf") - 4
    (length,) = struct.unpack_from(">I", whole, start)
    chunk, end = whole[start : start + 12 + length], whole.index(b"IEND") - 4
    with _refusal("PNG", 6):
        decode_image(whole.replace(chunk, b"")[: end - len(chunk)] + chunk + whole[end:], "a.png")


def test_only_exif_turns_a_picture():
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    plain = _picture("JPEG", b"")
    described = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + plain[2:]
    np.testing.assert_array_equal(decode_image(described, "a.jpeg"), decode_image(plain, "a.jpeg"))

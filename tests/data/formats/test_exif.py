import io
import struct

import numpy as np
import pytest
from PIL import Image

from unet_jax.data.formats import exif
from unet_jax.data.formats.image_file import decode_image
from unet_jax.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)


def _block(order, *entries):
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    packed = b"".join(struct.pack(f"{order}HHIHxx", *entry) for entry in entries)
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + packed


def _picture(kind, block):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, exif=block)
    return file.getvalue()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("value", range(1, 9))
def test_the_orientation_is_read_in_either_byte_order(order, value):
    assert exif.orientation(_block(order, (271, 3, 1, 5), (274, 3, 1, value), (305, 3, 1, 7))) == value


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif",
        bytes(40),
        _block("<"),
        _block("<", (271, 3, 1, 6)),
        _block("<", (274, 3, 1, 0)),
        _block(">", (274, 3, 1, 9)),
        _block(">", (274, 2, 1, 6)),
        _block("<", (271, 3, 1, 6), (274, 3, 1, 6))[:-4],
        b"II*\0\xff\xff\xff\xff",
    ],
)
def test_what_says_nothing_is_upright(block):
    assert exif.orientation(block) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("value", range(2, 9))
def test_a_picture_that_asks_to_be_turned_is_refused(kind, value):
    described = Image.Exif()
    described[exif.ORIENTATION] = value
    with pytest.raises(InputError, match=rf"^a\.{kind.lower()}: .*mirrored \(orientation {value}\): save it upright"):
        decode_image(_picture(kind, described), f"a.{kind.lower()}")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_other_exif_leaves_the_pixels_as_they_are(kind):
    upright = Image.Exif()
    upright[exif.ORIENTATION], upright[271] = 1, "maker"
    plain = decode_image(_picture(kind, b""), f"a.{kind.lower()}")
    for described in (upright, b"Exif\0\0" + bytes(20)):
        np.testing.assert_array_equal(decode_image(_picture(kind, described), f"a.{kind.lower()}"), plain)
    assert plain.shape == PIXELS.shape
    assert kind == "JPEG" or (plain == PIXELS).all()

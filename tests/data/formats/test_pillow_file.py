import io
import struct

import numpy as np
import pytest
from PIL import Image

from unet_jax.data.formats import pillow_file, table
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.sources import Settings, reader
from unet_jax.errors import InputError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (9, 11, 4), np.uint8)
GREY, BITS = COLOUR[..., 0], COLOUR[..., 1] > 127
CLASSES = RNG.integers(0, 3, (9, 11), np.uint8)
COLOURS = [0, 0, 0, 255, 0, 0, 0, 0, 255]


def saved(kind, pixels, palette=None, **options):
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def read(data, name, mask=False):
    return table.read(data, pillow_file.PurePath(name), mask=mask)[0]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.bmp", saved("BMP", GREY), GREY),
        ("a.bmp", saved("BMP", COLOUR[..., :3].copy()), COLOUR[..., :3]),
        ("a.bmp", saved("BMP", BITS), BITS * 255),
        ("a.gif", saved("GIF", GREY), GREY),
        ("a.GIF", saved("GIF", (BITS * 255).astype(np.uint8)), BITS * 255),
        ("a.webp", saved("WEBP", COLOUR[..., :3].copy(), lossless=True), COLOUR[..., :3]),
        ("a.webp", saved("WEBP", COLOUR, lossless=True, exact=True), COLOUR),
        ("a.png", saved("PNG", BITS), BITS * 255),
        ("a.tif", saved("TIFF", BITS), BITS * 255),
        ("a.tif", saved("TIFF", BITS, compression="group4"), BITS * 255),
        ("a.tif", saved("TIFF", BITS, compression="group3"), BITS * 255),
        ("a.tif", saved("TIFF", BITS, tiffinfo={262: 0}), BITS * 255),
    ],
)
def test_pixels_are_those_that_were_saved(name, data, expected):
    found = read(data, name)
    np.testing.assert_array_equal(found[0], expected.reshape(9, 11, -1))
    assert found.dtype == np.uint8


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.gif", "GIF"), ("a.bmp", "BMP"), ("a.tif", "TIFF")])
def test_a_palette_is_colours_of_an_image_and_numbers_of_a_mask(name, kind):
    data = saved(kind, CLASSES, COLOURS)
    table_of_colours = np.array(COLOURS, np.uint8).reshape(3, 3)
    np.testing.assert_array_equal(read(data, name)[0], table_of_colours[CLASSES])
    np.testing.assert_array_equal(read(data, name, mask=True)[0, ..., 0], CLASSES)


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.gif", "GIF"), ("a.tif", "TIFF")])
def test_a_palette_of_white_and_black_is_what_it_looks_like(name, kind):
    """Whichever of the two comes first."""
    for palette, white in (([0, 0, 0, 255, 255, 255], 1), ([255, 255, 255, 0, 0, 0], 0)):
        two = BITS.astype(np.uint8)
        for mask in (False, True):
            found = read(saved(kind, two, palette), name, mask)
            np.testing.assert_array_equal(found[0, ..., 0], np.where(two == white, 255, 0))


def test_masks_as_gif_and_palettes_are_trained_on(tmp_path):
    """As DRIVE has them: a TIFF and a GIF."""
    (tmp_path / "a.tif").write_bytes(saved("TIFF", COLOUR[..., :3].copy()))
    (tmp_path / "a_mask.gif").write_bytes(saved("GIF", (BITS * 255).astype(np.uint8)))
    (tmp_path / "b.bmp").write_bytes(saved("BMP", COLOUR[..., 1:].copy()))
    (tmp_path / "b_mask.png").write_bytes(saved("PNG", CLASSES % 2, COLOURS))
    made = reader(tmp_path, "pairs", Settings())
    first, second = [made.decode(files, lambda path: read_file(tmp_path, path)) for files in made.find(tmp_path)]
    np.testing.assert_array_equal(first.mask[0], BITS)
    np.testing.assert_array_equal(second.mask[0], CLASSES % 2)
    np.testing.assert_array_equal(second.image[0], COLOUR[..., 1:])


WEBP_BOMB = b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\xff\xff\xff\xff" + bytes(10)
BMP_BOMB = bytearray(saved("BMP", GREY))
BMP_BOMB[18:26] = struct.pack("<ii", 30000, 30000)
GIF_BOMB = bytearray(saved("GIF", GREY))
GIF_BOMB[6:10] = struct.pack("<HH", 65535, 65535)


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("a.gif", saved("BMP", GREY), r"is a BMP and its name ends in '\.gif'"),
        ("a.gif", b"", "the file is empty"),
        ("a.bmp", b"nothing", "is not a GIF, BMP or WebP"),
        ("a.webp", WEBP_BOMB, "claims 16777216x16777216 pixels"),
        ("a.bmp", bytes(BMP_BOMB), "claims 30000x30000 pixels"),
        ("a.gif", bytes(GIF_BOMB), "claims 65535x65535 pixels"),
        ("a.bmp", saved("BMP", GREY)[:-20], "the file is damaged"),
        ("a.webp", saved("WEBP", GREY)[:-20], "the file is damaged"),
        (
            "a.gif",
            saved("GIF", GREY, save_all=True, append_images=[Image.fromarray(GREY.T.copy())]),
            "has more than one frame",
        ),
    ],
)
def test_damaged_and_wrong_files_are_refused_by_name(name, data, complaint):
    with pytest.raises(InputError, match=rf"^{name}: .*{complaint}") as caught:
        read(data, name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "kind"), [("a.gif", "GIF"), ("a.bmp", "BMP"), ("a.webp", "WEBP"), ("a.png", "PNG"), ("a.tif", "TIFF")]
)
def test_random_damage_is_always_answered_by_an_input_error(name, kind):
    whole = saved(kind, CLASSES, COLOURS)
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] ^= 1 << rng.integers(8)
        try:
            read(bytes(data[: rng.integers(len(data)) if rng.random() < 0.3 else None]), name, mask=rng.random() < 0.5)
        except InputError:
            refused += 1
    assert refused > 50

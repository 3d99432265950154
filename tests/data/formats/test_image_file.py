"""Pages of TIFFs, BigTIFF, and the TIFFs that OpenCV decodes to other pixels or not at all."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from unet_jax.data.formats.image_file import decode, decode_image, encode, read_file
from unet_jax.data.formats.sources import Settings, reader
from unet_jax.data.formats.unlabelled import image_reader
from unet_jax.errors import InputError
from unet_jax.inference.writers import overlays, picture_masks

RNG = np.random.default_rng(0)


def tiff(pixels, *, tile=0, extra=None, big=False):
    """An uncompressed TIFF of 8 bits, in tiles if asked for (TIFF 6.0, section 15)."""
    h, w, c = pixels.shape
    side = (tile, tile) if tile else (h, w)
    down, across = -(-h // side[0]), -(-w // side[1])
    padded = np.zeros((down * side[0], across * side[1], c), np.uint8)
    padded[:h, :w] = pixels
    blocks = [
        padded[i * side[0] : (i + 1) * side[0], j * side[1] : (j + 1) * side[1]].tobytes()
        for i in range(down)
        for j in range(across)
    ]
    start, length = 16, len(blocks[0])
    data = bytearray(b"".join(blocks))
    tags = {256: [w], 257: [h], 258: [8] * c, 259: [1], 262: [2 if c > 2 else 1], 277: [c]}
    tags |= {322: [tile], 323: [tile]} if tile else {278: [h]}
    tags |= {324 if tile else 273: [start + n * length for n in range(len(blocks))]}
    tags |= {325 if tile else 279: [length] * len(blocks)}
    tags |= {} if extra is None else {338: [extra]}
    offset, room = ("Q", 8) if big else ("I", 4)
    entries = b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(packed) > room:
            place = start + len(data)
            data += packed
            packed = struct.pack(f"<{offset}", place)
        entries += struct.pack(f"<HH{offset}", tag, 4, len(values)) + packed.ljust(room, b"\0")
    head = b"II+\0\x08\0\0\0" if big else b"II*\0"
    head = (head + struct.pack(f"<{offset}", start + len(data))).ljust(start, b"\0")
    return head + data + struct.pack("<Q" if big else "<H", len(tags)) + entries + bytes(room)


@pytest.mark.parametrize("shape", [(32, 32, 1), (33, 47, 1), (33, 47, 3), (33, 47, 4)])
def test_plain_tiles_of_8_bits_are_read(shape):
    pixels = RNG.integers(0, 256, shape, np.uint8)
    data = tiff(pixels, tile=16, extra=2 if shape[2] == 4 else None)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(data))).reshape(shape), pixels)
    np.testing.assert_array_equal(decode_image(data, "a.tif").reshape(shape), pixels)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_colours_are_not_multiplied_by_an_alpha_that_stands_apart(compression):
    pixels = RNG.integers(0, 256, (8, 9, 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF", compression=compression)
    assert Image.open(file).tag_v2[338] == (2,)
    np.testing.assert_array_equal(decode_image(file.getvalue(), "a.tif"), pixels)
    np.testing.assert_array_equal(decode_image(tiff(pixels, extra=2), "a.tif"), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_bigtiff_is_read(channels):
    pixels = RNG.integers(0, 256, (8, 9, channels), np.uint8)
    np.testing.assert_array_equal(decode(tiff(pixels, big=True), "a.tif")[0], pixels)
    with pytest.raises(InputError, match="the file is damaged"):
        decode(tiff(pixels, big=True)[:-40], "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_pages_are_slices(dtype, channels):
    pages = RNG.integers(0, 100, (4, 8, 9, channels)).astype(dtype)
    if channels == 3 and dtype in (np.int16, np.int32):
        pages = pages[..., :1]
    data = cv2.imencodemulti(".tif", [np.ascontiguousarray(page[..., ::-1]) for page in pages])[1].tobytes()
    found = decode(data, "a.tif")
    np.testing.assert_array_equal(found, pages)
    assert found.dtype == dtype
    with pytest.raises(InputError, match=r"^a\.tif: has more than one page"):
        decode_image(data, "a.tif")


def test_pages_by_pillow_are_slices():
    pages = RNG.integers(0, 2, (3, 8, 9)).astype(bool)
    first, *more = map(Image.fromarray, pages)
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=more, compression="group4")
    np.testing.assert_array_equal(decode(file.getvalue(), "a.tif")[..., 0], pages * 255)


def test_pages_that_differ_are_refused():
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(
        file, "TIFF", save_all=True, append_images=[Image.fromarray(np.zeros((4, 4), np.uint8))]
    )
    with pytest.raises(InputError, match=r"^a\.tif: has pages of several sizes or types"):
        decode(file.getvalue(), "a.tif")


def test_a_stack_is_a_case_in_training_and_its_mask_a_stack_in_prediction(tmp_path):
    """As the ISBI 2012 challenge has its 30 sections."""
    stack = RNG.integers(0, 256, (5, 8, 9), np.uint8)
    mask = RNG.integers(0, 2, stack.shape, np.uint8)
    for folder, pixels in (("images", stack), ("masks", mask * np.uint8(255))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.tif").write_bytes(encode(pixels, ".tif"))
    made = reader(tmp_path, "pairs", Settings())
    [files] = made.find(tmp_path)
    case = made.decode(files, lambda path: read_file(tmp_path, path))
    np.testing.assert_array_equal(case.image[..., 0], stack)
    np.testing.assert_array_equal(case.mask, mask)
    made, root = image_reader(tmp_path / "images" / "train.tif", Settings())
    [files] = made.find(root)
    [(path, data)] = picture_masks.encode(files, root, mask, None)
    assert path.name == "train_mask.tif"
    np.testing.assert_array_equal(decode(data, path)[..., 0], mask * 255)
    pictures = dict(overlays.encode(files, case, mask, None))
    assert [path.as_posix() for path in pictures] == [f"overlays/train/{number}.png" for number in range(1, 6)]


def test_slices_in_files_of_several_pages_are_refused(tmp_path):
    for number in (1, 2):
        (tmp_path / f"p_{number}.tif").write_bytes(encode(np.zeros((2, 4, 4), np.uint8), ".tif"))
        (tmp_path / f"p_{number}_mask.tif").write_bytes(encode(np.zeros((2, 4, 4), np.uint8), ".tif"))
    made = reader(tmp_path, "pairs", Settings(patient_pattern="(?P<patient>p)_(?P<slice>.)"))
    [files] = made.find(tmp_path)
    with pytest.raises(InputError, match=r"p_1\.tif: has 2 pages, and is one slice of p: save each page as"):
        made.decode(files, lambda path: read_file(tmp_path, path))


def test_random_damage_to_pages_is_always_answered_by_an_input_error():
    stack = RNG.integers(0, 256, (3, 8, 9), np.uint8)
    rng, refused = np.random.default_rng(0), 0
    for whole in (encode(stack, ".tif"), tiff(stack[0][..., None], big=True), tiff(stack[0][..., None], tile=16)):
        for _ in range(300):
            data = bytearray(whole)
            for at in rng.integers(0, len(data), rng.integers(1, 4)):
                data[at] ^= 1 << rng.integers(8)
            try:
                decode(bytes(data[: rng.integers(len(data)) if rng.random() < 0.3 else None]), "a.tif")
            except InputError:
                refused += 1
    assert refused > 150

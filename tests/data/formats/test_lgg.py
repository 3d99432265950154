import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.data import cache
from unet_jax.data.formats import lgg
from unet_jax.errors import InputError

NAME = "TCGA_AA_1234_19990101"


def _deflate_tiff(pixels, order="<"):
    """An RGB TIFF by the book (TIFF 6.0, sections 2, 3 and 6), one Deflate strip, written without OpenCV."""
    height, width, channels = pixels.shape
    strip = zlib.compress(pixels.tobytes())
    bits_at = 10 + 12 * 9 + 4
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, bits_at),
        (259, 3, 1, 8),
        (262, 3, 1, 2),
        (273, 4, 1, bits_at + 6),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(strip)),
    ]
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, count, value in entries:
        code = "HH" if kind == 3 and count == 1 else "I"
        values = (value, 0) if code == "HH" else (value,)
        data += struct.pack(f"{order}HHI{code}", tag, kind, count, *values)
    return data + struct.pack(f"{order}I3H", 0, 8, 8, 8) + strip


def _decode(root):
    [files] = lgg.find(root)
    return lgg.decode(files, lambda path: (root / path).read_bytes())


def _picture(*shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


def test_slices_come_in_numeric_order_with_their_own_masks(tmp_path, write_scan):
    numbers = [1, 2, 9, 10, 11, 100]
    image = np.stack([_picture(8, 9, 3) + number for number in numbers]).astype(np.uint8)
    mask = np.zeros((6, 8, 9), np.uint8)
    mask[np.arange(6), np.arange(6), 0] = 1
    write_scan(tmp_path, NAME, image, mask, numbers)
    (tmp_path / "data.csv").write_text("Patient,age\n")
    (tmp_path / ".ipynb_checkpoints").mkdir()

    case = _decode(tmp_path)

    assert (case.name, case.patient, case.spacing) == (NAME, "TCGA_AA_1234", None)
    assert case.image[:, 0, 0, 0].tolist() == numbers
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.mask, mask)


@pytest.mark.parametrize("order", ["<", ">"])
def test_channels_keep_the_order_of_the_file(order):
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    np.testing.assert_array_equal(lgg._decode_image(_deflate_tiff(pixels, order), Path("a.tif")), pixels)


@pytest.mark.parametrize("order", ["<", ">"])
def test_no_damaged_byte_of_a_deflate_strip_changes_a_pixel_unnoticed(order):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    whole = _deflate_tiff(pixels, order)
    start = 10 + 12 * 9 + 4 + 6
    refused = 0
    for position in range(start, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        try:
            # A few bits of the format pad it to whole bytes, and mean nothing.
            np.testing.assert_array_equal(lgg._decode_image(bytes(damaged), Path("a.tif")), pixels)
        except InputError:
            refused += 1
    assert refused > pixels.size


@pytest.mark.parametrize("kept", [0, 1, 8, 60, -40, -1])
def test_truncated_files_are_refused(kept):
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    for data in (_deflate_tiff(pixels), cv2.imencode(".tif", pixels)[1].tobytes()):
        with pytest.raises(
            InputError, match="is empty" if kept == 0 else "is not a TIFF" if kept == 1 else "is damaged"
        ):
            lgg._decode_image(data[:kept], Path("a.tif"))


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(InputError, match=r"config\.data\.root=.*nowhere: there is no such folder"):
        lgg.find(tmp_path / "nowhere")


def test_a_root_one_level_too_high_is_told_so(tmp_path, write_scan):
    write_scan(tmp_path / "kaggle_3m", NAME, _picture(1, 8, 8, 3), _picture(1, 8, 8))
    with pytest.raises(InputError, match=r"config\.data\.root=.*no TIFF .* in its 1 folders.*\(.*/kaggle_3m\)"):
        lgg.find(tmp_path)


def test_a_mask_that_is_no_tiff_is_named(tmp_path, write_scan):
    write_scan(tmp_path, NAME, _picture(2, 8, 8, 3), _picture(2, 8, 8))
    cv2.imwrite(str(tmp_path / NAME / f"{NAME}_1_MASK.png"), _picture(8, 8))
    (tmp_path / NAME / f"{NAME}_1_mask.tif").unlink()
    (tmp_path / NAME / f"{NAME}_2_mask.tif").rename(tmp_path / NAME / f"{NAME}_2_Mask.TIF")
    [files] = lgg.find(tmp_path)
    assert files.faults == (
        f"{NAME}/{NAME}_1.tif: this image has no mask: {NAME}/{NAME}_1_MASK.png is not a TIFF: convert it.",
    )
    assert [path.name for path in files.masks] == [f"{NAME}_2_Mask.TIF"]


def _spoil(root, write_scan):
    """A data set with one fault of every kind; returns the start of each fault's line."""
    for letter in "ABC":
        write_scan(root, f"TCGA_XX_{letter}_0", _picture(5, 8, 8, 3), _picture(5, 8, 8))
    a, b, c = (f"TCGA_XX_{letter}_0/TCGA_XX_{letter}_0" for letter in "ABC")
    write_scan(root, "TCGA_XX", _picture(1, 8, 8, 3), _picture(1, 8, 8))
    (root / "TCGA_XX_D_0").mkdir()

    (root / f"{a}_2_mask.tif").unlink()
    (root / f"{a}_3.tif").unlink()
    cv2.imwrite(str(root / f"{a}_01.tif"), _picture(8, 8, 3))
    cv2.imwrite(str(root / f"{a}_x.tif"), _picture(8, 8, 3))
    cv2.imwrite(str(root / f"{a}_4_mask.tif"), np.full((8, 8), 7, np.uint8))
    cv2.imwrite(str(root / f"{a}_5.tif"), _picture(9, 8, 3))
    cv2.imwrite(str(root / f"{a}_5_mask.tif"), _picture(9, 8))

    cv2.imwrite(str(root / f"{b}_1_mask.tif"), _picture(8, 9))
    (root / f"{b}_2.tif").write_bytes(b"")
    (root / f"{b}_3.tif").write_bytes((root / f"{b}_4.tif").read_bytes()[:-20])
    (root / f"{b}_4_mask.tif").write_bytes(b"no picture at all")
    (root / f"{b}_5.tif").unlink()
    (root / f"{b}_5.tif").mkdir()

    cv2.imwrite(str(root / f"{c}_1.tif"), _picture(8, 8, 3, dtype=np.uint16))
    cv2.imwrite(str(root / f"{c}_2.tif"), _picture(8, 8))
    cv2.imwrite(str(root / f"{c}_3.tif"), _picture(8, 8, 4))
    cv2.imwrite(str(root / f"{c}_4_mask.tif"), _picture(8, 8, 3))
    cv2.imwrite(str(root / f"{c}_5_mask.tif"), _picture(8, 8, dtype=np.uint16))
    return [
        "TCGA_XX: the folder's name has fewer than three fields",
        "TCGA_XX_D_0: the folder holds no TIFF",
        f"{a}_1.tif: is slice 1, as is {a}_01.tif",
        f"{a}_x.tif: is named neither",
        f"{a}_2.tif: this image has no mask",
        f"{a}_3_mask.tif: this mask has no image",
        f"{a}_4_mask.tif: the mask has the values 7 beside 0 and 255",
        f"{a}_5.tif: is 9x8 pixels and the case's first slice 8x8",
        f"{b}_1_mask.tif: is 8x9 pixels and its image 8x8",
        f"{b}_2.tif: the file is empty (0 bytes)",
        f"{b}_3.tif: the file is damaged",
        f"{b}_4_mask.tif: is not a TIFF, PNG or JPEG (its first bytes are b'no pictu')",
        f"{b}_5.tif: is a folder, pipe or device",
        f"{c}_1.tif: has 3 channels of uint16, where 3 of uint8 are needed",
        f"{c}_2.tif: has 1 channel of uint8, where 3 of uint8 are needed",
        f"{c}_3.tif: has 4 channels of uint8, where 3 of uint8 are needed",
        f"{c}_4_mask.tif: has 3 channels of uint8, where 1 of uint8 are needed",
        f"{c}_5_mask.tif: has 1 channel of uint16, where 1 of uint8 are needed",
    ]


def test_every_fault_of_a_data_set_is_listed_at_once(tmp_path, write_scan, capfd):
    expected = _spoil(tmp_path / "data", write_scan)
    with pytest.raises(InputError) as caught:
        cache.load(lgg, tmp_path / "data", tmp_path / "cache")
    lines = str(caught.value).splitlines()
    for start in expected:
        assert [line for line in lines if line.startswith(start)], start
    assert len(lines) == len(expected)
    assert list((tmp_path / "cache").iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_the_mask_threshold_and_gaps_in_the_numbers(tmp_path, write_scan):
    mask = np.zeros((2, 8, 8), np.uint8)
    mask[1, 2:4, 5] = 1
    write_scan(tmp_path, NAME, _picture(2, 8, 8, 3), mask, [3, 17])
    case = _decode(tmp_path)
    assert case.mask.dtype == np.uint8
    assert case.mask.sum() == 2
    assert [path.name for path in lgg.find(tmp_path)[0].images] == [f"{NAME}_3.tif", f"{NAME}_17.tif"]
    assert lgg.find(tmp_path)[0].images[0] == Path(NAME, f"{NAME}_3.tif")

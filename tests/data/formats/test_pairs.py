from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.data import cache, patients
from unet_jax.data.formats import pairs, pictures
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.sources import Settings, reader
from unet_jax.data.patients import Patients
from unet_jax.errors import InputError

ALONE = Patients()


def _write(path, pixels):
    """Channels in the array's order: OpenCV writes them reversed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    assert cv2.imwrite(str(path), pixels)


def _picture(seed=0, shape=(6, 7, 3), dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def _mask(seed=0, shape=(6, 7), top=255):
    return np.random.default_rng(seed).integers(0, 2, shape, np.uint8) * np.uint8(top)


def _decode(root, files, labels=None):
    return pictures.decode(files, lambda path: read_file(root, path), labels)


@pytest.mark.parametrize(
    ("image", "mask", "name"),
    [
        ("images/a.png", "masks/a.png", "a"),
        ("images/a.tif", "masks/a_mask.png", "a"),
        ("images/b/a.jpg", "masks/b/a.tiff", "b/a"),
        ("images/a_mask.png", "masks/a_mask.png", "a_mask"),
        ("a.png", "a_mask.tif", "a"),
        ("b/a.jpeg", "b/a_mask.png", "b/a"),
    ],
)
def test_both_layouts_pair_by_name(tmp_path, image, mask, name):
    _write(tmp_path / image, _picture())
    _write(tmp_path / mask, _mask())
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    [files] = pairs.find(tmp_path, ALONE)
    assert (files.name, files.patient, files.faults) == (name, name, ())
    case = _decode(tmp_path, files)
    assert case.image.shape == (1, 6, 7, 3)
    np.testing.assert_array_equal(case.mask[0], _mask() // 255)
    if not image.endswith((".jpg", ".jpeg")):
        np.testing.assert_array_equal(case.image[0], _picture())


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_8_and_16_bits_of_1_to_4_channels(tmp_path, channels, suffix):
    shape = (6, 7) if channels == 1 else (6, 7, channels)
    for dtype in (np.uint8, np.uint16):
        pixels = _picture(1, shape, dtype)
        _write(tmp_path / dtype.__name__ / f"a{suffix}", pixels)
        _write(tmp_path / dtype.__name__ / "a_mask.png", _mask(top=1))
        [files] = pairs.find(tmp_path / dtype.__name__, ALONE)
        image = _decode(tmp_path / dtype.__name__, files).image
        expected = pixels.reshape(1, 6, 7, channels)
        if dtype == np.uint8:
            np.testing.assert_array_equal(image, expected)
        else:
            assert image.dtype == np.float32
            np.testing.assert_array_equal(np.rint(image.astype(np.float64) * 65535), expected)


def test_float_tiffs_are_taken_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
    _write(tmp_path / "a.tif", pixels)
    _write(tmp_path / "a_mask.png", _mask())
    [files] = pairs.find(tmp_path, ALONE)
    np.testing.assert_array_equal(_decode(tmp_path, files).image[0, ..., 0], pixels)


def test_slices_are_put_together_by_patient_and_scan(tmp_path):
    names = ["p1_a_2", "p1_a_10", "p1_b_1", "p2_a_1"]
    for number, name in enumerate(names):
        _write(tmp_path / "images" / f"{name}.png", np.full((6, 7), number, np.uint8))
        _write(tmp_path / "masks" / f"{name}.png", _mask(number))
    found = pairs.find(tmp_path, patients.load("(?P<patient>p[0-9])_[ab]_(?P<slice>[0-9]+)", None))
    assert [(files.name, files.patient, len(files.images)) for files in found] == [
        ("p1_a", "p1", 2),
        ("p1_b", "p1", 1),
        ("p2", "p2", 1),
    ]
    case = _decode(tmp_path, found[0])
    assert case.image[:, 0, 0, 0].tolist() == [0, 1]
    np.testing.assert_array_equal(case.mask, np.stack([_mask(0), _mask(1)]) // 255)


def test_a_csv_puts_slices_together(tmp_path):
    for number, name in enumerate(["x", "y", "z"]):
        _write(tmp_path / "data" / f"{name}.png", np.full((6, 7), number, np.uint8))
        _write(tmp_path / "data" / f"{name}_mask.png", _mask(number))
    (tmp_path / "who.csv").write_text("file,patient,slice\nx,anna,2\ny.png,anna,1\nz,bert,1\n")
    anna, bert = pairs.find(tmp_path / "data", patients.load(None, tmp_path / "who.csv"))
    assert (anna.name, bert.name) == ("anna", "bert")
    assert anna.images == (Path("y.png"), Path("x.png"))


def test_a_label_map_gives_classes(tmp_path):
    _write(tmp_path / "a.png", _picture())
    mask = np.zeros((6, 7), np.uint16)
    mask[0, :3] = [50, 100, 1000]
    _write(tmp_path / "a_mask.png", mask)
    [files] = pairs.find(tmp_path, ALONE)
    found = _decode(tmp_path, files, {"edema": (1000,), "core": (50, 100)}).mask
    assert found[0, 0].tolist() == [2, 2, 1, 0, 0, 0, 0]


def test_for_prediction_masks_are_passed_over(tmp_path):
    _write(tmp_path / "beside" / "a.png", _picture())
    _write(tmp_path / "beside" / "a_mask.png", _mask())
    _write(tmp_path / "apart" / "images" / "b.png", _picture())
    _write(tmp_path / "apart" / "masks" / "b.png", _mask())
    for path, name in ((tmp_path / "beside", "a"), (tmp_path / "apart", "b"), (tmp_path / "beside" / "a.png", "a")):
        root, [files] = pairs.find_images(path, ALONE)
        case = _decode(root, files)
        assert (case.name, case.mask) == (name, None)
        np.testing.assert_array_equal(case.image[0], _picture())


def _spoil(root):
    """A data set with one fault of every kind, and the start of each fault's line."""
    for name in "abcdefghijk":
        _write(root / f"1_{name}.png", _picture())
        _write(root / f"1_{name}_mask.png", _mask())
    _write(root / "1_a.tif", _picture())
    (root / "1_b_mask.png").unlink()
    (root / "1_c.png").unlink()
    _write(root / "1_d_mask.png", _mask(shape=(6, 8)))
    _write(root / "1_e_mask.png", np.full((6, 7), 9, np.uint8))
    _write(root / "1_f_mask.png", _picture())
    (root / "1_g.png").write_bytes((root / "1_g.png").read_bytes()[:-30])
    (root / "1_h.png").write_bytes(b"")
    _write(root / "1_i.tif", _picture().astype(np.float32) + np.nan)
    (root / "1_i.png").unlink()
    _write(root / "1_j_mask.jpg", _mask())
    (root / "1_j_mask.png").unlink()
    _write(root / "two_k.png", _picture())
    _write(root / "two_k_mask.png", _mask())
    _write(root / "2_1.png", _picture())
    _write(root / "2_1_mask.png", _mask())
    _write(root / "2_2.png", _picture(shape=(6, 7)))
    _write(root / "2_2_mask.png", _mask())
    _write(root / "2_02.png", _picture())
    _write(root / "2_02_mask.png", _mask())
    return [
        "1_a.tif: is called as 1_a.png is",
        "1_b.png: this image has no mask",
        "1_c_mask.png: this mask has no image",
        "1_d_mask.png: is 6x8 pixels and its image 6x7",
        "1_e_mask.png: the mask has the values 9 beside 0 and 1",
        "1_f_mask.png: the mask has the colours ",
        "1_g.png: the file is damaged",
        "1_h.png: the file is empty",
        "1_i: ",
        "1_j_mask.jpg: is a mask as JPEG",
        "two_k: config.data.patient_pattern=",
        "2_2.png: is slice 2 of 2, as is 2_02.png",
    ]


def test_every_fault_is_listed_at_once(tmp_path):
    expected = _spoil(tmp_path / "data")
    settings = Settings(patient_pattern="(?P<patient>[0-9])_([a-z]|(?P<slice>[0-9]+))")
    made = reader(tmp_path / "data", "pairs", settings)
    with pytest.raises(InputError) as caught:
        cache.load(made, tmp_path / "data", tmp_path / "cache")
    lines = str(caught.value).splitlines()
    for start in expected:
        assert [line for line in lines if line.startswith(start)], (start, lines)
    assert len(lines) == len(expected)


def test_slices_of_several_sizes_are_named(tmp_path):
    for number, shape in enumerate([(6, 7), (6, 7), (5, 7)]):
        _write(tmp_path / f"p_{number}.png", _picture(shape=shape))
        _write(tmp_path / f"p_{number}_mask.png", _mask(shape=shape))
    [files] = pairs.find(tmp_path, patients.load("(?P<patient>p)_(?P<slice>.)", None))
    with pytest.raises(InputError, match=r"^p_2\.png: has 5x7 pixels, .* first slice of p 6x7 pixels"):
        _decode(tmp_path, files)


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no picture"):
        pairs.find(tmp_path, ALONE)


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (
            ["images/a.png", "masks/a.xcf"],
            "images/a.png: this image has no mask; masks/a.xcf is of a kind that is not read as a mask: save it as "
            "PNG or "
            "TIFF.",
        ),
        (
            ["a.png", "a_mask.xcf"],
            "a.png: this image has no mask; a_mask.xcf is of a kind that is not read as a mask: save it as PNG or "
            "TIFF.",
        ),
        (
            ["images/a.png", "masks/A.png"],
            "images/a.png: this image has no mask; masks/A.png differs from its name in capital letters: rename one of "
            "them.",
        ),
        (
            ["images/ISIC_1.jpg", "masks/ISIC_1_segmentation.png"],
            "images/ISIC_1.jpg: this image has no mask; masks/ISIC_1_segmentation.png may be it: name it as the "
            "image is, "
            "or with _mask at the end.",
        ),
        (
            ["a.png", "a_label.png"],
            "a.png: this image has no mask; a_label.png may be it: name it as the image is, or with _mask at the end.",
        ),
        (
            ["images/x/a.png", "masks/a.png"],
            "images/x/a.png: this image has no mask; masks/a.png lies in another folder: move it to where the "
            "image's own "
            "path leads.",
        ),
        (
            ["a (1).png", "a (1)_mask.png", "a (1)_mask_1.png"],
            "a (1)_mask_1.png: this image has no mask; a (1).png may be what it is a further mask of: draw all masks "
            "of a "
            "picture in one.",
        ),
        (
            ["images/a.png", "images/a_mask.png", "masks/a_mask.png"],
            "masks/a_mask.png: can be the mask of images/a_mask.png or of images/a.png: rename it or one of the "
            "images.",
        ),
        (
            ["images/a.png", "masks/a.png", "masks/a_mask.png"],
            "masks/a_mask.png: can be the mask of images/a.png, and so can masks/a.png: remove one of the two.",
        ),
    ],
)
def test_a_near_miss_is_named_in_one_line(tmp_path, names, line):
    for name in ("images/ok.png", "masks/ok.png") if names[0].startswith("images") else ("ok.png", "ok_mask.png"):
        _write(tmp_path / name, _picture())
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    *_, last = pairs.find(tmp_path, ALONE)
    assert line in last.faults
    assert len(last.faults) == 1 + ("of images/a_mask.png" in line)


def test_one_mistake_in_a_thousand_files_is_one_line(tmp_path):
    image, mask = (cv2.imencode(".jpg", pixels)[1].tobytes() for pixels in (_picture(), _mask()))
    for number in range(1000):
        for folder, data in (("images", image), ("masks", mask)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / folder / f"cju{number:04d}.jpg").write_bytes(data)
    made = reader(tmp_path / "data", "pairs", Settings())
    with pytest.raises(InputError) as caught:
        cache.load(made, tmp_path / "data", tmp_path / "cache")
    assert str(caught.value) == (
        "masks/cju0000.jpg: is a mask as JPEG, which changes its values: save it as PNG or TIFF, or, if it "
        "is black and white, set --config.data.mask_threshold=128. Found 1,000 times, "
        f"also in masks/cju0001.jpg, masks/cju0002.jpg, …; all are listed in {tmp_path}/cache/faults.txt."
    )
    assert len((tmp_path / "cache" / "faults.txt").read_text().splitlines()) == 1000


@pytest.mark.parametrize("top", ["", "train/"])
def test_images_and_masks_are_found_in_any_letters_and_in_the_folders_of_a_split(tmp_path, top):
    for side in (top, "Val/") if top else ("",):
        _write(tmp_path / side / "Images" / "x" / "a.png", _picture())
        _write(tmp_path / side / "MASKS" / "x" / "a.png", _mask())
    found = pairs.find(tmp_path, ALONE)
    assert [files.name for files in found] == (["Val/x/a", "train/x/a"] if top else ["x/a"])
    for files in found:
        case = _decode(tmp_path, files)
        np.testing.assert_array_equal(case.image[0], _picture())
        np.testing.assert_array_equal(case.mask[0], _mask() // 255)
    assert [files.name for files in pairs.find_images(tmp_path, ALONE)[1]] == [files.name for files in found]


def test_a_picture_of_a_csv_under_another_path_is_named(tmp_path):
    _write(tmp_path / "data" / "x" / "a.png", _picture())
    _write(tmp_path / "data" / "x" / "a_mask.png", _mask())
    (tmp_path / "who.csv").write_text("file,patient\nA.png,anna\n")
    *_, last = pairs.find(tmp_path / "data", patients.load(None, tmp_path / "who.csv"))
    [fault] = last.faults
    assert fault.endswith("has no line for this file, and one for A: write the name as it stands here.")

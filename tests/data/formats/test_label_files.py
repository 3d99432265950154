"""A file for each class: which class is which number, by pictures and volumes written for the purpose."""

import re
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from unet_jax.data import cache
from unet_jax.data.formats import pattern_notes, sources
from unet_jax.data.formats.patterns import MASKS, parse, parse_pair
from unet_jax.data.formats.sources import Settings
from unet_jax.errors import InputError

LUNGS = Settings(images="CXR_png/{case}.png", masks="ManualMask/{label:right|left}Mask/{case}.png")
LEFT, RIGHT = np.zeros((2, 8, 9), np.uint8)
LEFT[2:5, 5:8], RIGHT[1:6, 1:4] = 1, 1


def _write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def _lungs(root, *cases, left=LEFT * 255, right=RIGHT):
    for case in cases:
        _write(root / f"CXR_png/{case}.png", np.arange(72, dtype=np.uint8).reshape(8, 9))
        _write(root / f"ManualMask/leftMask/{case}.png", left)
        _write(root / f"ManualMask/RightMask/{case}.png", right)


def _masks(root, settings, cache_folder):
    cases, *_ = cache.load(sources.reader(root, "patterns", settings), root, cache_folder)
    return [case.mask for case in cases]


def test_each_class_has_a_file_and_the_pattern_their_order(tmp_path):
    _lungs(tmp_path / "data", "a", "b")
    assert sources.classes(tmp_path, "patterns", LUNGS) == {"right": (1,), "left": (2,)}
    for mask in _masks(tmp_path / "data", LUNGS, tmp_path / "cache"):
        np.testing.assert_array_equal(mask[0], RIGHT + 2 * LEFT)
    united = Settings(images=LUNGS.images, masks="ManualMask/*Mask/{case}.png")
    np.testing.assert_array_equal(_masks(tmp_path / "data", united, tmp_path / "cache")[0][0], RIGHT + LEFT)


def test_volumes_too_with_a_threshold_and_pixels_that_are_ignored(tmp_path):
    rng = np.random.default_rng(0)
    levels = {name: rng.integers(0, 3, (4, 5, 6)).astype(np.int16) * 60 for name in ("image", "a", "b", "ignore")}
    levels["b"][levels["a"] > 50] = levels["ignore"][levels["a"] > 50] = 0
    levels["ignore"][levels["b"] > 50] = 0
    for name, voxels in levels.items():
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / f"x_{name}.nii")
    settings = Settings(images="{case}_image.nii", masks="{case}_{label:a|b|ignore}.nii", mask_threshold=50, axes="ras")
    [mask] = _masks(tmp_path, settings, tmp_path / "cache")
    expected = sum(number * (levels[name] > 50) for name, number in (("a", 1), ("b", 2), ("ignore", 255)))
    np.testing.assert_array_equal(np.sort(mask, axis=None), np.sort(expected, axis=None))
    assert sources.label_map(tmp_path, "patterns", settings) == {"a": (1,), "b": (2,), "ignore": (3,)}
    assert list(sources.classes(tmp_path, "patterns", settings)) == ["a", "b"]


def test_classes_that_overlap_are_refused_in_one_line(tmp_path):
    both = np.maximum(RIGHT, LEFT)
    _lungs(tmp_path / "data", *"abcdef", left=both)
    with pytest.raises(InputError) as caught:
        _masks(tmp_path / "data", LUNGS, tmp_path / "cache")
    [line] = [line for line in str(caught.value).splitlines() if "another class" in line]
    assert re.search(r"ManualMask/leftMask/[a-f]\.png", line)
    assert "has 15 pixels of another class than ManualMask/RightMask/" in line
    assert "6" in line


def test_an_image_without_one_of_the_classes_is_named_and_has_none_of_it(tmp_path):
    root = tmp_path / "data"
    _lungs(root, "a", "b")
    (root / "ManualMask/leftMask/b.png").unlink()
    a, b = _masks(root, LUNGS, tmp_path / "cache")
    assert (a.max(), b.max()) == (2, 1)
    assert pattern_notes.of_files(root, LUNGS.images, LUNGS.masks)[1] == (
        "1 of 2 images have masks, but none of left (CXR_png/b.png): they count as without it."
    )
    (root / "ManualMask/RightMask/b.png").unlink()
    with pytest.raises(InputError, match=r"CXR_png/b\.png: this image has no mask"):
        _masks(root, LUNGS, tmp_path / "cache")


def test_values_of_a_file_are_the_labels_of_one_class(tmp_path):
    _lungs(tmp_path / "data", "a", left=LEFT * 7, right=RIGHT * 9)
    with pytest.raises(InputError, match=r"leftMask/a\.png: the mask has the values 7 beside 0 and 1: draw it in"):
        _masks(tmp_path / "data", LUNGS, tmp_path / "cache")
    settings = Settings(images=LUNGS.images, masks=LUNGS.masks, labels="marked=7, ignore=9")
    np.testing.assert_array_equal(
        _masks(tmp_path / "data", settings, tmp_path / "cache")[0][0], 2 * LEFT + np.uint8(255) * RIGHT
    )
    several = Settings(images=LUNGS.images, masks=LUNGS.masks, labels="x=7, y=9")
    with pytest.raises(InputError, match=r"has a file for each class, and config\.data\.labels names 2 classes within"):
        sources.reader(tmp_path, "patterns", several)


def test_a_label_that_images_have_too_tells_cases_apart():
    images, masks = parse_pair("{label:benign|bad}/{case}.png", "{label:benign|bad}/{case}_mask.png")
    assert sources.label_files.label_map(images, masks, None) is None
    with pytest.raises(InputError, match=r"\{label\} needs the classes' names in their order, as in \{label:left\|"):
        parse_pair("{case}.png", "{case}_{label}.png")
    with pytest.raises(InputError, match="has a class twice"):
        sources.label_files.label_map(*parse_pair("{case}.png", "{case}_{label:a|a}.png"), None)
    assert parse("{case}_{label:[ab]}.png", MASKS).labels is None


def test_of_words_that_begin_alike_the_longer_one_is_meant():
    pattern = parse("{case}_{channel:t1|t1ce}*.nii", "config.data.images")
    assert pattern.match(Path("a_t1ce_x.nii"))["channel"] == "t1ce"

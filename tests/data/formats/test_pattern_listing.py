from pathlib import Path

import pytest

from unet_jax.data.formats import pattern_listing
from unet_jax.data.formats.patterns import IMAGES, MASKS, parse, parse_pair
from unet_jax.data.patients import Patients
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def _find(root, images, masks, patients=None):
    return pattern_listing.find(root, *parse_pair(images, masks), patients or Patients())


def _faults(root, images, masks):
    return list(_find(root, images, masks)[-1].faults)


def test_channels_stand_in_the_patterns_order_and_masks_are_passed_over_as_images(tmp_path):
    _touch(tmp_path, *(f"{case}/{case}_{end}.nii" for case in "ab" for end in ("t1", "T1CE", "flair", "seg")))
    found = _find(tmp_path, "{case}/{case}_{channel:t1ce|flair|t1}.nii", "{case}/{case}_seg.nii")
    assert found == [
        CaseFiles(
            case,
            case,
            tuple(Path(f"{case}/{case}_{end}.nii") for end in ("T1CE", "flair", "t1")),
            (Path(f"{case}/{case}_seg.nii"),),
            channels=3,
        )
        for case in "ab"
    ]


def test_channels_that_are_not_listed_are_in_numeric_order(tmp_path):
    _touch(tmp_path, "m/a.png", *(f"i/a_{number}.png" for number in (10, 9, 0)))
    [files] = _find(tmp_path, "i/{case}_{channel}.png", "m/{case}.png")
    assert [path.name for path in files.images] == ["a_0.png", "a_9.png", "a_10.png"]


def test_slices_are_in_numeric_order_and_a_mask_pairs_by_number(tmp_path):
    _touch(tmp_path, "anna/x_10.tif", "anna/x_9.tif", "anna/x_010_mask.tif", "anna/x_9_mask.tif", "bert/x_1.tif")
    _touch(tmp_path, "bert/x_1_mask.tif")
    anna, bert = _find(tmp_path, "{patient}/{case}_{slice}.tif", "{patient}/{case}_{slice}_mask.tif")
    assert (anna.name, anna.patient, bert.name, bert.patient) == ("anna_x", "anna", "bert_x", "bert")
    assert [path.name for path in anna.images] == ["x_9.tif", "x_10.tif"]
    assert [path.name for path in anna.masks] == ["x_9_mask.tif", "x_010_mask.tif"]


def test_several_masks_are_of_one_case(tmp_path):
    _touch(tmp_path, "a (1).png", "a (1)_mask.png", "a (1)_mask_1.png", "a (2).png", "a (2)_mask.png")
    one, two = _find(tmp_path, "{case}.png", "{case}_mask*.png")
    assert (one.parts, two.parts) == ((2,), ())
    assert [path.name for path in one.masks] == ["a (1)_mask.png", "a (1)_mask_1.png"]


def test_names_are_those_of_fields_and_stay_different(tmp_path):
    pairs = ("a_b/c", "a/b_c")
    _touch(tmp_path, *(f"{pair}{end}.png" for pair in pairs for end in ("", "_mask")))
    found = _find(tmp_path, "{patient}/{case}.png", "{patient}/{case}_mask.png")
    assert sorted(files.name for files in found) == ["a/b_c", "a_b/c"]


def test_a_stack_alone_is_one_case(tmp_path):
    _touch(tmp_path, *(f"{folder}/{number}.png" for folder in ("image", "label") for number in range(11)))
    [files] = _find(tmp_path, "image/{slice}.png", "label/{slice}.png")
    assert files.name == files.patient == "stack"
    assert [path.stem for path in files.images] == [str(number) for number in range(11)]


def test_a_pattern_or_table_of_patients_tells_whose_a_case_is(tmp_path):
    _touch(tmp_path, "i/anna_1.png", "m/anna_1.png")
    [files] = _find(tmp_path, "i/{case}.png", "m/{case}.png", Patients("(?P<patient>[a-z]+)_[0-9]"))
    assert (files.name, files.patient) == ("anna_1", "anna")


def test_no_file_is_said_with_what_lies_there_and_the_patterns_that_would_fit(tmp_path):
    _touch(tmp_path, "imgs/a.png", "imgs/b.png", "masks/a.png", "masks/b.png")
    with pytest.raises(InputError) as caught:
        _find(tmp_path, "images/{case}.png", "masks/{case}.png")
    assert str(caught.value) == (
        f"config.data.images='images/{{case}}.png': matches no file in {tmp_path}, which holds 2 .png in imgs "
        "(a.png, …), 2 .png in masks (a.png, …); these patterns would pair 2 images with masks: "
        "--config.data.images='imgs/{case}.png' --config.data.masks='masks/{case}.png'."
    )


@pytest.mark.parametrize(
    ("names", "images", "masks", "lines"),
    [
        (["a.png"], "{case}.png", "{case}_m.png",
         ["a.png: this image has no mask (a_m.png by config.data.masks): add it or remove this file."]),
        (["i/a.png", "m/a_seg.png"], "i/{case}.png", "m/{case}.png",
         # What the pattern takes for the mask of a_seg is the mask of a.
         ["i/a.png: this image has no mask (m/a.png by config.data.masks); m/a_seg.png may be it: mend "
          "config.data.masks, or rename the file."]),
        (["i/a.png", "m/a.tif"], "i/{case}.png", "m/{case}.png",
         ["i/a.png: this image has no mask (m/a.png by config.data.masks); m/a.tif has another suffix: "
          "config.data.masks may end in .*."]),
        (["i/a.png", "m/a.png", "m/b.png"], "i/{case}.png", "m/{case}.png",
         ["m/b.png: this mask by config.data.masks has no image by config.data.images: add it, remove this file, or "
          "mend the patterns."]),
        (["a_t1.nii", "a_seg.nii", "b_t1.nii", "b_t2.nii", "b_seg.nii"], "{case}_{channel:t1|t2}.nii", "{case}_seg.nii",
         ["a_t1.nii: lacks the channel t2 of config.data.images='{case}_{channel:t1|t2}.nii': add it, or take it out "
          "there."]),
        (["x/a.png", "y/a.png", "m/a.png"], "?/{case}.png", "m/{case}.png",
         ["y/a.png: has the same fields as x/a.png by config.data.images='?/{case}.png': remove one of them, or add a "
          "field that differs."]),
        (["01.png", "1.png", "1_m.png"], "{slice}.png", "{slice}_m.png",
         ["1.png: has the same fields as 01.png by config.data.images='{slice}.png': remove one of them, or add a "
          "field that differs."]),
        (["a_x.png", "a_x_m.png"], "{case}_{slice:[a-z]}.png", "{case}_{slice:[a-z]}_m.png",
         ["a_x.png: has 'x' for {slice}, which must be a number.", "a_x_m.png: has 'x' for {slice}, which must be a "
          "number."]),
    ],
)  # fmt: skip
def test_a_mistake_is_a_line_with_the_field_and_the_pattern(tmp_path, names, images, masks, lines):
    _touch(tmp_path, *names)
    if "{slice:[a-z]}" in images:
        found = pattern_listing.match([Path(name) for name in names], *parse_pair(images, masks)).faults
        assert found == lines
        return
    assert _faults(tmp_path, images, masks) == lines


def test_of_two_patterns_the_one_that_says_more_takes_a_file():
    paths = [Path(name) for name in ("a.png", "a_mask.png")]
    for images, masks in (("{case}.png", "{case}_mask.png"), ("{case}_mask.png", "{case}.png")):
        matched = pattern_listing.match(paths, parse(images, IMAGES), parse(masks, MASKS))
        assert [len(matched.images), len(matched.masks), matched.faults] == [1, 1, []]
    same = pattern_listing.match(paths[:1], parse("{case}.png", IMAGES), parse("{case:.+}.png", MASKS))
    assert len(same.faults) == 1
    assert "is matched by config.data.images='{case}.png' and by config.data.masks=" in same.faults[0]


@pytest.mark.parametrize(
    ("names", "images", "expected"),
    [
        (["images/a.png", "images/b.png"], "images/{case}.png", ["a", "b"]),
        (["a.png", "b.png"], "images/{case}.png", ["a", "b"]),
        (["a.png", "a_mask.png"], "images/{case}.png", ["a"]),
        (["a/a_t1.nii", "a/a_t2.nii", "a/a_mask.nii"], "top/{case}/{case}_{channel:t1|t2}.nii", ["a"]),
    ],
)
def test_to_predict_on_the_folders_that_a_pattern_begins_with_may_be_missing(tmp_path, names, images, expected):
    masks = images.replace("images/{case}", "{case}_mask").replace("{channel:t1|t2}", "mask")
    found = pattern_listing.find_images(
        tmp_path, [Path(name) for name in names], parse(images, IMAGES), parse(masks, MASKS)
    )
    assert [files.name for files in found] == expected
    assert all(not files.masks and not files.faults for files in found)
    with pytest.raises(InputError, match=r"by which this run was trained, matches no file in .*: name the files"):
        pattern_listing.find_images(tmp_path, [Path("x.jpg")], parse(images, IMAGES), None)

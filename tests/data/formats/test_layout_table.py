"""Folders as people have them, made here: which cases, patients, channels and mask values come out of each."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from PIL import Image

from unet_jax.data import cache
from unet_jax.data.formats import known_layouts, layouts, proposals, sources
from unet_jax.errors import InputError

# A disc of 45 pixels, and one of 13 elsewhere.
YY, XX = np.mgrid[:16, :20]
DISC = ((YY - 8) ** 2 + (XX - 6) ** 2 <= 14).astype(np.uint8)
SMALL = ((YY - 8) ** 2 + (XX - 16) ** 2 <= 4).astype(np.uint8)
BIG, LITTLE = int(DISC.sum()), int(SMALL.sum())
COLOURED = np.stack([DISC * 0, SMALL * 255, DISC * 255], -1)  # blue, green, red


def _picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":  # which OpenCV does not write
        Image.fromarray(pixels).save(path)
    else:
        assert cv2.imwrite(str(path), pixels)


def _volume(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def _image(value: int, channels: int = 3) -> np.ndarray:
    image = np.full((16, 20, channels), value, np.uint8)
    return image if channels > 1 else image[..., 0]


def _pictures(image: str, *masks: str, names=("a", "b", "c"), channels=3) -> Callable[[Path], None]:
    """Makes pictures and their masks; in paths, # stands for the case. The second mask is the small disc."""

    def make(root: Path) -> None:
        for number, name in enumerate(names):
            _picture(root / image.replace("#", name), _image(40 + number, channels))
            for path, disc in zip(masks, (DISC, SMALL), strict=False):
                _picture(root / path.replace("#", name), disc * 255)

    return make


def _volumes(image: str, mask: str, ends=("",), labels=(1,), names=("a", "b", "c")) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for name in names:
            for number, end in enumerate(ends):
                _volume(root / image.replace("#", name).replace("~", end), np.full((4, 5, 6), number, np.float32))
            drawn = np.zeros((4, 5, 6), np.uint8)
            for number, value in enumerate(labels):
                drawn[number] = value
            _volume(root / mask.replace("#", name), drawn)

    return make


def _busi(root: Path) -> None:
    for sort in ("benign", "malignant", "normal"):
        _pictures(f"{sort}/{sort} (#).png", f"{sort}/{sort} (#)_mask.png", names="12")(root)
    _picture(root / "benign" / "benign (1)_mask_1.png", SMALL * 255)


def _decathlon(root: Path) -> None:
    for name in "ab":
        scan = np.stack([np.full((4, 5, 6), number, np.float32) for number in range(3)], -1)
        _volume(root / "imagesTr" / f"t_{name}.nii.gz", scan)
        _volume(root / "labelsTr" / f"t_{name}.nii.gz", np.arange(120).reshape(4, 5, 6).astype(np.uint8) % 3)
        (root / "imagesTr" / f"._t_{name}.nii.gz").write_bytes(b"Mac")
    training = [{"image": f"./imagesTr/t_{name}.nii.gz", "label": f"./labelsTr/t_{name}.nii.gz"} for name in "ab"]
    _json(root, modality={"0": "T1", "1": "T2", "2": "FLAIR"}, training=training, numTraining=2,
          labels={"0": "background", "1": "edema", "2": "core"})  # fmt: skip


def _nnunet_png(root: Path) -> None:
    for name in "ab":
        _picture(root / "imagesTr" / f"{name}_0000.png", _image(7))
        _picture(root / "labelsTr" / f"{name}.png", DISC)
    _json(root, channel_names={"0": "R", "1": "G", "2": "B"}, labels={"background": 0, "road": 1}, file_ending=".png")


def _nnunet_table(root: Path) -> None:
    _volumes("scans/#~.nii.gz", "drawn/#.nii.gz", ends=("x", "y"))(root)
    table = {
        name: {"images": [f"scans/{name}y.nii.gz", f"./scans/{name}x.nii.gz"], "label": f"drawn/{name}.nii.gz"}
        for name in "ab"
    }
    _json(root, channel_names={"0": "Y", "1": "X"}, labels={"background": 0, "tumour": 1}, file_ending=".nii.gz",
          dataset=table)  # fmt: skip


def _nnunet_1(root: Path) -> None:
    _volumes("imagesTr/#_~.nii.gz", "labelsTr/#.nii.gz", ends=("0000", "0001"), names="ab")(root)
    training = [{"image": f"./imagesTr/{name}_0000.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in "ab"]
    _json(root, modality={"0": "T1", "1": "T2"}, labels={"0": "background", "1": "tumour"}, numTraining=2,
          training=training)  # fmt: skip


def _json(root: Path, **content) -> None:
    (root / "dataset.json").write_text(json.dumps(content))


def _masks(pixels: np.ndarray, suffix: str = ".png") -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for number, name in enumerate("ab"):
            _picture(root / "images" / f"{name}.png", _image(40 + number))
            _picture(root / "masks" / f"{name}{suffix}", pixels)

    return make


def _many(*makers: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for maker in makers:
            maker(root)

    return make


# A layout's name; what makes it; what is read: source, names of cases, how many patients, shape of the first image, and
# how many pixels of the first mask are of class 1, 2 and so on; keys of config.data that the user sets.
READ = [
    ("busi", _busi, "patterns", ["benign_benign (1)", "benign_benign (2)"], 6, (1, 16, 20, 3), [BIG + LITTLE]),
    ("isic", _many(_pictures("ISIC2018_Task1-2_Training_Input/ISIC_000#.jpg",
                             "ISIC2018_Task1_Training_GroundTruth/ISIC_000#_segmentation.png", names="12")),
     "patterns", ["ISIC_0001", "ISIC_0002"], 2, (1, 16, 20, 3), [BIG]),
    ("renamed", _pictures("images/#.jpg", "masks/#_segmentation.png"), "patterns", ["a", "b"], 3, (1, 16, 20, 3),
     [BIG]),
    ("labels", _pictures("images/#.png", "labels/#.png"), "patterns", ["a", "b"], 3, (1, 16, 20, 3), [BIG]),
    ("annotations", _pictures("img/#.jpg", "annotations/#.png"), "patterns", ["a", "b"], 3, (1, 16, 20, 3), [BIG]),
    ("imgs", _pictures("imgs/#.png", "gt/#.png", channels=1), "patterns", ["a", "b"], 3, (1, 16, 20, 1), [BIG]),
    ("singular", _pictures("image/#.png", "mask/#.png"), "patterns", ["a", "b"], 3, (1, 16, 20, 3), [BIG]),
    ("upper", _pictures("Images/#.png", "Masks/#.png"), "pairs", ["a", "b"], 3, (1, 16, 20, 3), [BIG]),
    ("marks", _pictures("#_image.png", "#_label.png"), "patterns", ["a", "b"], 3, (1, 16, 20, 3), [BIG]),
    ("montgomery", _pictures("CXR_png/#.png", "ManualMask/leftMask/#.png", "ManualMask/rightMask/#.png", channels=1),
     "patterns", ["a", "b"], 3, (1, 16, 20, 1), [BIG + LITTLE]),
    ("chase", _pictures("Image_#.jpg", "Image_#_1stHO.png", "Image_#_2ndHO.png", names=("01L", "01R", "02L", "02R")),
     "patterns", ["01_L", "01_R"], 2, (1, 16, 20, 3), [BIG]),
    ("archive", _pictures("CHASEDB1/Image_#.jpg", "CHASEDB1/Image_#_1stHO.png", names=("01L", "02L")),
     "patterns", ["01_L", "02_L"], 2, (1, 16, 20, 3), [BIG]),
    ("drive", _many(_pictures("training/images/#_training.tif", "training/1st_manual/#_manual1.gif", names="12"),
                    _pictures("test/images/#_test.tif", "test/1st_manual/#_manual1.gif", names="34")),
     "patterns", ["test_3", "test_4"], 4, (1, 16, 20, 3), [BIG]),
    ("carvana", _pictures("train/0a_#.jpg", "train_masks/0a_#_mask.gif", names=("01", "02")), "patterns",
     ["0a_01", "0a_02"], 1, (1, 16, 20, 3), [BIG]),
    ("sides", _many(_pictures("train/imgs/#.png", "train/masks/#.png"), _pictures("val/imgs/#.png", "val/masks/#.png")),
     "patterns", ["train_a", "train_b"], 6, (1, 16, 20, 3), [BIG]),
    ("brats in sides",
     _many(*(_volumes(f"{side}/#/#_~.nii", f"{side}/#/#_seg.nii", ends=("flair", "t1", "t1ce", "t2"), labels=(1, 2, 4))
             for side in ("train", "test"))),
     "patterns", ["test_a", "test_b"], 6, (6, 5, 4, 4), [30, 30, 30]),
    ("beside", _many(*(_pictures(f"{side}/#.png", f"{side}/#_mask.png") for side in ("train", "val"))), "pairs",
     ["train/a", "train/b"], 6, (1, 16, 20, 3), [BIG]),
    ("kvasir", _pictures("images/#.jpg", "masks/#.jpg"), "pairs", ["a", "b"], 3, (1, 16, 20, 3), [BIG]),
    ("brats", _volumes("BraTS20_#/BraTS20_#_~.nii.gz", "BraTS20_#/BraTS20_#_seg.nii.gz",
                       ends=("t1", "t2", "flair", "t1ce"), labels=(1, 2, 4)),
     "patterns", ["BraTS20_a", "BraTS20_b"], 3, (6, 5, 4, 4), [30, 30, 30]),
    ("brats2023", _volumes("BraTS-GLI-0000#/BraTS-GLI-0000#-~.nii.gz", "BraTS-GLI-0000#/BraTS-GLI-0000#-seg.nii.gz",
                           ends=("t1n", "t1c", "t2f", "t2w"), labels=(1, 2, 3), names=("1-000", "1-001", "2-000")),
     "patterns", ["BraTS-GLI-00001_000", "BraTS-GLI-00001_001"], 2, (6, 5, 4, 4), [30, 30, 30]),
    ("kits", _volumes("case_0#/imaging.nii.gz", "case_0#/segmentation.nii.gz", labels=(1, 2, 3)), "patterns",
     ["case_0a", "case_0b"], 3, (6, 5, 4, 1), [30, 30, 30]),
    ("lits", _volumes("Batch/volume-#.nii", "Batch/segmentation-#.nii", labels=(1, 2), names="12"), "patterns",
     ["1", "2"], 2, (6, 5, 4, 1), [30, 30]),
    ("decathlon", _decathlon, "patterns", ["t_a", "t_b"], 2, (6, 5, 4, 3), [40, 40]),
    ("nnunet png", _nnunet_png, "patterns", ["a", "b"], 2, (1, 16, 20, 3), [BIG]),
    ("nnunet table", _nnunet_table, "listed", ["a", "b"], 2, (6, 5, 4, 2), [30]),
    ("nnunet 1", _nnunet_1, "nifti", ["a", "b"], 2, (6, 5, 4, 2), [30]),
    ("rgb", _masks(np.repeat(DISC[..., None] * 255, 3, 2)), "pairs", ["a", "b"], 2, (1, 16, 20, 3), [BIG]),
    ("rgba", _masks(np.dstack([DISC * 255] * 3 + [np.full_like(DISC, 255)])), "pairs", ["a", "b"], 2, (1, 16, 20, 3),
     [BIG]),
    ("colours", _masks(COLOURED), "pairs", ["a", "b"], 2, (1, 16, 20, 3), [BIG, LITTLE],
     {"labels": "tumour=#ff0000, node=#00FF00"}),
    ("drop", _masks(DISC * 2 + SMALL), "pairs", ["a", "b"], 2, (1, 16, 20, 3), [BIG],
     {"labels": "tumour=2, background=0+1"}),
    ("smeared", _masks(np.where(DISC > 0, 250, np.where(SMALL > 0, 127, 3)).astype(np.uint8)), "pairs", ["a", "b"], 2,
     (1, 16, 20, 3), [BIG], {"mask_threshold": 128}),
]  # fmt: skip


@pytest.mark.parametrize("row", READ, ids=lambda row: row[0])
def test_a_layout_is_read_as_it_lies(row, tmp_path):
    _, make, source, names, patients, shape, pixels, *given = row
    root = tmp_path / "data"
    make(root)
    found = layouts.find(root)
    given = given[0] if given else {}
    settings = sources.Settings(**({**found.settings} | given))
    assert found.source == source, found.note
    listing = sources.reader(found.root, source, settings).find(found.root)
    cases, *_ = cache.load(sources.reader(found.root, source, settings), found.root, tmp_path / "cache", listing)
    ordered = sorted(cases, key=lambda case: case.name)
    assert [case.name for case in ordered][:2] == names
    assert len({case.patient for case in cases}) == patients
    assert ordered[0].image.shape == shape
    assert np.bincount(ordered[0].mask.ravel())[1:].tolist() == pixels
    # Files of other channels were written with values of their own, in the order of the layout.
    if shape[-1] == 4:
        order = {"brats": [2, 0, 3, 1], "brats2023": [2, 0, 1, 3], "brats in sides": [0, 1, 2, 3]}[row[0]]
        assert ordered[0].image[0, 0, 0].tolist() == pytest.approx(_stretched(order))


def _stretched(values: list[int]) -> list[float]:
    """Channels of one value each come out of scaling as they do alone."""
    from unet_jax.data import intensity

    images = np.stack([np.full((6, 5, 4), value, np.float32) for value in values], -1)
    return intensity.normalise(images, "volume")[0, 0, 0].tolist()


def _spoilt(root: Path, **change) -> None:
    _nnunet_table(root)
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(content | change))


def _outside(root: Path) -> None:
    _decathlon(root)
    content = json.loads((root / "dataset.json").read_text())
    content["training"] += [
        {"image": name, "label": "./labelsTr/t_a.nii.gz"} for name in ("../x.nii.gz", "/etc/passwd")
    ]
    (root / "dataset.json").write_text(json.dumps(content))


# What makes a folder; keys of config.data; the lines that refuse it.
REFUSED = [
    (_masks(COLOURED), {}, ["masks/a.png: the mask has the colours #ff0000, #00ff00: say what they mean, such as "
                            "--config.data.labels='class1=#ff0000, class2=#00ff00'."]),
    (_masks(DISC * 2 + SMALL), {"labels": "tumour=2"},
     ["masks/a.png: the mask has the values 1 beside 0 and 2: draw it in 0 and the values of the label map only, or "
      "add them to config.data.labels, such as 'tumour=2+1' to take them as the same, or 'tumour=2, background=1' to "
      "leave them out."]),
    (_outside, {}, ["dataset.json: names ../x.nii.gz, which leads out of the folder: put the files there, and their "
                    "paths from it.",
                    "dataset.json: names /etc/passwd, which leads out of the folder: put the files there, and their "
                    "paths from it."]),
    (lambda root: _spoilt(root, dataset={"a": {"images": ["../a.nii.gz", "scans/none.nii.gz"],
                                               "label": "drawn/a.nii.gz"}}), {},
     ["dataset.json: names ../a.nii.gz, which leads out of the folder: put the files there, and their paths from it.",
      "dataset.json: names scans/none.nii.gz, and there is no such file: restore it, or take it out."]),
    (lambda root: _spoilt(root, dataset={"a": {"images": "scans/ax.nii.gz"}}), {},
     ['a: needs "images", a list of paths, and "label", a path, in dataset.json.']),
]  # fmt: skip


def _read(root: Path, given: dict, folder: Path) -> None:
    found = layouts.find(root)
    made = sources.reader(found.root, found.source, sources.Settings(**({**found.settings} | given)))
    cache.load(made, found.root, folder)


@pytest.mark.parametrize(("make", "given", "lines"), REFUSED)
def test_what_cannot_be_read_is_said_in_a_line_that_tells_what_to_do(make, given, lines, tmp_path):
    root = tmp_path / "data"
    make(root)
    with pytest.raises(InputError) as caught:
        _read(root, given, tmp_path / "cache")
    kinds = dict.fromkeys(
        line.replace("b.png", "a.png").replace(f"{root}/", "") for line in str(caught.value).splitlines()
    )
    assert list(kinds) == lines


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("DRIVE", ["training/images/21_training.tif", "training/1st_manual/21_manual1.gif", "training/mask/21_x.gif",
                   "test/images/01_test.tif", "test/1st_manual/01_manual1.gif", "test/2nd_manual/01_manual2.gif"]),
        ("DRIVE", ["training/images/21_training.tif", "training/1st_manual/21_manual1.gif", "test/images/01_test.tif"]),
        ("Carvana", ["train/0cdf5b5d0ce1_01.jpg", "train_masks/0cdf5b5d0ce1_01_mask.gif"]),
        ("BraTS", [f"HGG/B_1/B_1_{end}.nii.gz" for end in ("flair", "t1", "t1ce", "t2", "seg")]),
        (None, [f"B_1/B_1_{end}.nii.gz" for end in ("flair", "t1", "seg")]),
        (None, ["a.png", "b_mask.png"]),
    ],
)  # fmt: skip
def test_a_public_data_set_is_known_by_its_files(name, paths):
    found = known_layouts.find([Path(path) for path in paths])
    assert (found and found.name) == name


def test_several_known_data_sets_below_one_folder_are_named(tmp_path):
    for top in ("new", "old"):
        _pictures(f"{top}/Image_#.jpg", f"{top}/Image_#_1stHO.png", names=("01L", "02L"))(tmp_path)
    with pytest.raises(InputError) as caught:
        layouts.find(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: holds several data sets: new (CHASE_DB1), old (CHASE_DB1): name one of these folders as "
        "config.data.root."
    )


def test_files_of_a_case_that_differ_are_named_by_file(tmp_path):
    for name in "ab":
        _picture(tmp_path / f"{name}_x.png", _image(1, 1))
        _picture(tmp_path / f"{name}_y.png", _image(1, 1)[:9] if name == "b" else _image(2, 1))
        _picture(tmp_path / f"{name}_m.png", DISC)
    settings = sources.Settings(images="{case}_{channel:x|y}.png", masks="{case}_m.png")
    made = sources.reader(tmp_path, "patterns", settings)
    good, bad = made.find(tmp_path)
    case = made.decode(good, lambda path: (tmp_path / path).read_bytes())
    assert case.image[0, 0, 0].tolist() == [1, 2]
    with pytest.raises(InputError) as caught:
        made.decode(bad, lambda path: (tmp_path / path).read_bytes())
    assert str(caught.value) == (
        "b_y.png: has 9x20 pixels, 1 channel of uint8, and the first file of b 16x20 pixels, 1 channel of uint8: all "
        "files of a volume must be alike."
    )


def test_volumes_of_a_case_that_lie_elsewhere_are_named_by_file(tmp_path):
    moved = np.eye(4)
    moved[0, 3] = 3
    _volume(tmp_path / "a_x.nii", np.zeros((4, 5, 6), np.float32))
    _volume(tmp_path / "a_y.nii", np.zeros((4, 5, 6), np.float32), moved)
    _volume(tmp_path / "a_m.nii", np.zeros((4, 5, 7), np.uint8))
    settings = sources.Settings(images="{case}_{channel:x|y}.nii", masks="{case}_m.nii")
    made = sources.reader(tmp_path, "patterns", settings)
    with pytest.raises(InputError) as caught:
        made.decode(made.find(tmp_path)[0], lambda path: (tmp_path / path).read_bytes())
    first, second = str(caught.value).splitlines()
    assert first.startswith("a_y.nii: its affine puts it up to 3.0 voxels away from a_x.nii")
    assert second.startswith("a_m.nii: is 4 x 5 x 7 voxels and a_x.nii 4 x 5 x 6")


def test_masks_of_one_picture_that_contradict_each_other_are_refused(tmp_path):
    _picture(tmp_path / "a.png", _image(1))
    _picture(tmp_path / "a_m1.png", DISC)
    _picture(tmp_path / "a_m2.png", DISC * 2)
    settings = sources.Settings(images="{case}.png", masks="{case}_m*.png", labels="x=1, y=2")
    made = sources.reader(tmp_path, "patterns", settings)
    with pytest.raises(InputError, match=rf"^a_m2\.png: has {BIG} pixels of another class than a_m1\.png: mend one"):
        made.decode(made.find(tmp_path)[0], lambda path: (tmp_path / path).read_bytes())


def test_the_fingerprint_of_what_could_be_read_before_is_what_it_was(tmp_path):
    pairs = sources.reader(tmp_path, "pairs", sources.Settings())
    assert (
        pairs.DECODING
        == "pairs 1: channels in file order, 16 bits over 65535; labels None; (None, []); intensity auto 1"
    )
    threshold = dataclasses.replace(sources.Settings(), mask_threshold=128)
    assert sources.reader(tmp_path, "pairs", threshold).DECODING != pairs.DECODING


@pytest.mark.parametrize(
    ("paths", "images", "masks", "pairs", "is_whole"),
    [
        (["x/1.png", "x/2.png", "x/1-gt.png", "x/2-gt.png"], "x/{case}.png", "x/{case}-gt.png", 2, True),
        (["i/a_raw.tif", "i/b_raw.tif", "o/a_v.png", "o/b_v.png"], None, None, 0, False),
        (["scan/a_raw.tif", "scan/b_raw.tif", "gt/a_v.png", "gt/b_v.png"], "scan/{case}_raw.tif", "gt/{case}_v.png", 2,
         True),
        ([f"p{n}/p{n}_{end}.nii.gz" for n in range(6) for end in ("t1", "t2", "seg")],
         "{patient}/{patient}_{channel:t1|t2}.nii.gz", "{patient}/{patient}_seg.nii.gz", 6, True),
        ([f"{sort}/{kind}/{n}.png" for sort in ("cyst", "none") for kind in ("images", "masks") for n in range(3)],
         "{folder}/images/{case}.png", "{folder}/masks/{case}.png", 6, True),
        ([f"{side}/{kind}/{n}.png" for side in ("train", "val") for kind in ("img", "label") for n in range(3)],
         "{side}/img/{case}.png", "{side}/label/{case}.png", 6, True),
        (["PhotoSet/a.jpg", "PhotoSet/b.jpg", "ManualMask/a.png", "ManualMask/b.png", "ManualMask/c.png"],
         "PhotoSet/{case}.jpg", "ManualMask/{case}.png", 2, False),
    ],
)  # fmt: skip
def test_the_patterns_that_pair_the_most_files_are_proposed(paths, images, masks, pairs, is_whole):
    found = proposals.best([Path(path) for path in paths])
    if images is None:
        assert found is None
        return
    assert (found.images, found.masks, found.pairs, found.is_whole) == (images, masks, pairs, is_whole)

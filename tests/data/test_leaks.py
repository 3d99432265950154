"""Ways in which a score can be inflated or a patient be on two sides, one row each, with the line that answers it.

A row makes a data set in a folder. It is read as training reads it, the split is chosen and checked, and what the user
is told on the way is collected, an error included. Each expected line must be among it, `*` standing for anything; a
row may also say what must not be said.
"""

import dataclasses
import fnmatch
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from configs import default
from unet_jax.data import cache, leaks, split_of_run, splits
from unet_jax.data.case import Case
from unet_jax.data.formats import layouts, sources
from unet_jax.errors import InputError

NEVER = "by patient"


@dataclasses.dataclass(frozen=True)
class Row:
    """A data set that could flatter.

    Attributes:
        name: how it could.
        make: writes it; may return keys of config.data to read it with.
        lines: what the user is told.
        never: what must not be said.
    """

    name: str
    make: Callable[[Path], dict | None]
    lines: tuple[str, ...]
    never: tuple[str, ...] = ()


ROWS: list[Row] = []


def row(name, *lines, never=()):
    def add(make):
        ROWS.append(Row(name, make, lines, (never,) if isinstance(never, str) else never))
        return make

    return add


def picture(seed, size=16):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def disc(seed, size=16):
    """A mask of its own for each seed, of more than 32 pixels."""
    mask = np.zeros((size, size), np.uint8)
    mask[2 : 9 + seed % 5, 1 : 8 + seed // 5 % 7] = 255
    return mask


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def pair(root, name, seed, suffix=".png", mask=None):
    """A picture with its mask beside it."""
    write(root / f"{name}{suffix}", picture(seed))
    write(root / f"{name}_mask.png", disc(seed) if mask is None else mask)


def pairs(root, names, start=0):
    for seed, name in enumerate(names, start):
        pair(root, name, seed)


def scan(root, name, seed, slices=3):
    for number in range(1, slices + 1):
        write(root / name / f"{name}_{number}.tif", picture(100 * seed + number))
        write(root / name / f"{name}_{number}_mask.tif", disc(seed + number))


def scans(root, count=6, start=1):
    for seed in range(start, start + count):
        scan(root, f"TCGA_AA_{seed:02d}_2000", seed)


def volumes(root, names, channels=1):
    for seed, name in enumerate(names):
        rng = np.random.default_rng(seed)
        for channel in range(channels):
            save(root / "imagesTr" / f"{name}_{channel:04d}.nii.gz", rng.integers(0, 900, (16, 16, 4), np.int16))
        save(root / "labelsTr" / f"{name}.nii.gz", np.repeat(disc(seed)[..., None] // 255, 4, -1))
    content = {
        "channel_names": {str(channel): f"c{channel}" for channel in range(channels)},
        "labels": {"background": 0, "tumour": 1},
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1, 1, 1])), path)


def table(root, header, *lines):
    path = root.parent / "split.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return {"split_file": str(path)}


def thirds(names):
    """A CSV's lines that put every name on one of three sides in turn."""
    return [f"{name},{('train', 'val', 'test')[number % 3]}" for number, name in enumerate(names)]


def _told(root, workdir, changes):
    lines = []
    try:
        config = default.get_config()
        config.data.update(changes)
        layout = layouts.find(root)
        lines.append(layout.note)
        settings = sources.settings(config.data.to_dict())
        lines += sources.notes(layout.source, settings)
        reader = sources.reader(layout.root, layout.source, settings)
        listing = reader.find(layout.root)
        cases, _, digests = cache.load(reader, layout.root, workdir / "cache")
        unit = sources.unit(layout.source, settings)
        path = workdir / "split.json"
        split, notes = split_of_run.choose(path, config.data.to_dict(), 0, cases, listing, unit)
        lines += [*notes, split.label]
        lines += leaks.check_leaks(split, cases, listing, digests)
        lines += leaks.side_warnings(split, cases, sources.classes(layout.root, layout.source, settings))
    except InputError as error:
        lines += str(error).splitlines()
    return lines


# A folder that is guessed wrong.


@row(
    "the archive as it unpacks: scans one level deeper, and all of them twice",
    "Data: * in kaggle_3m, which is read (config.data.root=*/data/kaggle_3m, config.data.source=lgg). The same files "
    "lie in lgg-mri-segmentation/kaggle_3m again, and are not read.",
    NEVER,
    never="by picture",
)
def _(root):
    scans(root / "kaggle_3m")
    scans(root / "lgg-mri-segmentation" / "kaggle_3m")


@row("scans one level deeper", "Data: * in kaggle_3m, which is read *", NEVER, never="by picture")
def _(root):
    scans(root / "kaggle_3m")


@row(
    "two sets of scans below",
    "*: holds several data sets: one (*), two (*): name one of these folders as *",
    never=NEVER,
)
def _(root):
    scans(root / "one")
    scans(root / "two", start=4)


@row(
    "scans and other pictures",
    "*: holds folders of scans as of Kaggle's LGG data in kaggle_3m, and other pictures with masks beside them, such "
    "as mine/a_mask.png: name one folder as config.data.root, or read all as pictures with config.data.source=pairs.",
    never=NEVER,
)
def _(root):
    scans(root / "kaggle_3m")
    pairs(root / "mine", "abc")


@row("scans in folders train and test", "*: holds several data sets: test (*), train (*)*config.data.split_file.")
def _(root):
    scans(root / "train")
    scans(root / "test", start=7)


# Copies.

ON_TWO_SIDES = (
    ": is the same image as *, and is on the * side where that is on the * side: leave one out, or put both *"
)


@row("a picture copied under another name", f"*{ON_TWO_SIDES}", never=())
def _(root):
    pairs(root, "abcdef")
    for number, name in enumerate("uvwxyz"):
        pair(root, name, number)


@row("a picture saved in another format", f"*{ON_TWO_SIDES}")
def _(root):
    pairs(root, "abcdef")
    for number, name in enumerate("uvwxyz"):
        pair(root, name, number, suffix=".tif")


@row("a picture with other bytes after its end", f"*{ON_TWO_SIDES}")
def _(root):
    pairs(root, "abcdef")
    for number, name in enumerate("uvwxyz"):
        pair(root, name, number)
        data = cv2.imencode(".png", picture(number), (cv2.IMWRITE_PNG_COMPRESSION, 0))[1].tobytes()
        (root / f"{name}.png").write_bytes(data)


@row("a scan copied as another patient's", f"TCGA_*.tif{ON_TWO_SIDES} Found * times, also in *", NEVER)
def _(root):
    scans(root)
    for seed in range(1, 7):
        scan(root, f"TCGA_BB_{seed:02d}_2001", seed)


@row("one slice copied into another patient's scan", f"TCGA_*.tif{ON_TWO_SIDES}", NEVER)
def _(root):
    return _slices_of_another(root)


@row("one slice copied, which each scan stretches in its own way", f"TCGA_*.tif{ON_TWO_SIDES}", NEVER)
def _(root):
    return _slices_of_another(root) | {"intensity": "volume"}


def _slices_of_another(root):
    scans(root)
    [first, *others] = sorted(root.iterdir())
    for other in others:
        data = (first / f"{first.name}_1.tif").read_bytes()
        (other / f"{other.name}_2.tif").write_bytes(data)
    return {}


@row(
    "a volume copied under another name",
    f"imagesTr/*_0000.nii.gz, slice 0{ON_TWO_SIDES} Found * times, *",
    "by case",
    never=NEVER,
)
def _(root):
    volumes(root, "abcdef")
    for name, other in zip("abcdef", "uvwxyz", strict=True):
        for folder, end in (("imagesTr", "_0000"), ("labelsTr", "")):
            data = (root / folder / f"{name}{end}.nii.gz").read_bytes()
            (root / folder / f"{other}{end}.nii.gz").write_bytes(data)


@row("a volume compressed again", f"*{ON_TWO_SIDES} Found * times, also in *")
def _(root):
    volumes(root, "abcdef")
    for name, other in zip("abcdef", "uvwxyz", strict=True):
        for folder, end in (("imagesTr", "_0000"), ("labelsTr", "")):
            image = nibabel.load(root / folder / f"{name}{end}.nii.gz")
            image.header["descrip"] = b"again"
            nibabel.save(image, root / folder / f"{other}{end}.nii.gz")


@row("one channel of another case", f"*{ON_TWO_SIDES}*")
def _(root):
    volumes(root, "abcdef", channels=2)
    for name in "bcdef":
        (root / "imagesTr" / f"{name}_0001.nii.gz").write_bytes((root / "imagesTr" / "a_0001.nii.gz").read_bytes())


@row(
    "a repeated scan of one patient, the same to the pixel",
    "3 images are on their side of the split twice, such as TCGA_AA_01_2000/TCGA_AA_01_2000_1.tif and *",
    NEVER,
    never=f"*{ON_TWO_SIDES}",
)
def _(root):
    scans(root)
    scan(root, "TCGA_AA_01_2001", 1)


@row("blank slices and empty masks are no copies", NEVER, never=(f"*{ON_TWO_SIDES}*", "*the same*"))
def _(root):
    for seed in range(1, 7):
        scan(root, f"TCGA_AA_{seed:02d}_2000", seed)
        for number in (1, 3):
            write(root / f"TCGA_AA_{seed:02d}_2000" / f"TCGA_AA_{seed:02d}_2000_{number}_mask.tif", 0 * disc(0))
        write(root / f"TCGA_AA_{seed:02d}_2000" / f"TCGA_AA_{seed:02d}_2000_1.tif", 0 * picture(0))


@row(
    "one patient in two sequences, a picture each",
    "* the same on two sides of the split, such as those of * and *: are they of one patient?",
    "by picture",
    never=NEVER,
)
def _(root):
    for number in range(8):
        pair(root, f"{number}_t1", number)
        pair(root, f"{number}_t2", 50 + number, mask=disc(number))


# Patients.


@row("nobody says whose the pictures are", "by picture", "Each picture counts as a patient of its own: *", never=NEVER)
def _(root):
    pairs(root, [f"p{patient}_{number}" for patient in range(4) for number in range(3)])


@row("nobody says whose the volumes are", "by case", "Each case counts as a patient of its own: *", never=NEVER)
def _(root):
    volumes(root, [f"p{patient}_visit{number}" for patient in range(3) for number in range(2)])


@row("somebody says whose the pictures are", NEVER, never=("by picture", "Each picture counts *"))
def _(root):
    pairs(root, [f"p{patient}_{number}" for patient in range(4) for number in range(3)])
    return {"patient_pattern": r"p(?P<patient>\d)_(?P<slice>\d)"}


@row(
    "left and right eye of one patient",
    "* pictures on two sides are called like left and right of one patient, such as Image_*L (*) and Image_*R (*): *",
    "by picture",
    never=NEVER,
)
def _(root):
    pairs(root, [f"Image_{patient:02d}{eye}" for patient in range(8) for eye in "LR"])


@row(
    "one patient with and without zeros in the number",
    "* patients on two sides have names that differ in signs or zeros alone, such as *: if they are one, name them *",
)
def _(root):
    pairs(root, [f"{name}_{number}" for number in range(6) for name in (f"p{number}", f"P-{number:02d}")])
    return {"patient_pattern": r"(?P<patient>[^_]+)_\d"}


@row(
    "one patient in two spellings", "anna: this patient's name differs from Anna in capital letters or accents alone: *"
)
def _(root):
    pairs(root, ["Anna_1", "Anna_2", "anna_3", "bert_1", "carl_1"])
    return {"patient_pattern": r"(?P<patient>[^_]+)_\d"}


@row("one patient in two folders of a split", "*train and test share p1: put each patient on one side only.")
def _(root):
    pairs(root, ["train/p1_1", "train/p2_1", "train/p3_1", "val/p4_1", "test/p1_2"])
    return {"patient_pattern": r"[a-z]+/(?P<patient>p\d)_\d"}


@row(
    "one scan in two folders of a split",
    "The files of these cases lie in folders of several sides: p1 (test, train): *",
)
def _(root):
    pairs(root, ["train/a", "train/b", "val/c", "test/d"])
    (root.parent / "who.csv").write_text("file,patient,slice\ntrain/a,p1,1\ntrain/b,p2,1\nval/c,p3,1\ntest/d,p1,2\n")
    return {"patient_csv": str(root.parent / "who.csv")}


# The user's own split.


@row("folders train, val and test", "The split is that of the folders train, val, test.", "by picture", never=NEVER)
def _(root):
    pairs(root, [f"{side}/{number}" for side in ("train", "val", "test") for number in range(3)])


@row("images and masks in folders of the sides", "The split is that of the folders Training, test.")
def _(root):
    for seed in range(8):
        side = "Training" if seed < 6 else "test"
        write(root / side / "Images" / f"{seed}.png", picture(seed))
        write(root / side / "Masks" / f"{seed}.png", disc(seed))


@row(
    "folders without a test side",
    "The split is that of the folders train, val.",
    "It has no test side, so its val side is scored as the test side.",
    "It has no validation side left, so 1 of its training cases validate.",
)
def _(root):
    pairs(root, [*(f"train/{number}" for number in range(6)), "val/0", "val/1"])
    # Pictures of the same numbers are of other patients.
    for number in range(2):
        write(root / "val" / f"{number}.png", picture(70 + number))


@row(
    "folders of sides beside other cases",
    "The folders train, test are not used as the split, which is drawn: other * (a*",
)
def _(root):
    pairs(root, ["train/x", "train/y", "test/z", "a", "b", "c"])


@row(
    "folders of sides, and folds",
    "The folders train, test are not used as the split: config.data.folds=2 draws folds *",
)
def _(root):
    pairs(root, ["train/w", "train/x", "train/y", "test/z"])
    return {"folds": 2}


@row("a picture in two folders of a split", f"test/z.png{ON_TWO_SIDES}")
def _(root):
    pairs(root, ["train/w", "train/x", "val/y"])
    pair(root, "test/z", 0)


@row("one side's folder has no masks", "*/data/test: has no folders images and masks, which lie in the other sides' *")
def _(root):
    for side in ("train", "val", "test"):
        write(root / side / "images" / "a.png", picture(len(side)))
        if side != "test":
            write(root / side / "masks" / "a.png", disc(len(side)))


@row(
    "a split file that does not agree",
    "config.data.split_file=*: these cases of it are not in the data: B, y.",
    "config.data.split_file=*: these cases of the data are not in it: b, f.",
    "config.data.split_file=*: these cases are on two sides: a (test, train).",
    "config.data.split_file: is B meant to be b? *",
)
def _(root):
    pairs(root, "abcdef")
    return table(root, "case,side", "a,train", "B,train", "c,Validation", "d,train", "e,test", "y,test", "a,test")


@row("a split file by patient", "The split is that of *split.csv.", NEVER)
def _(root):
    pairs(root, [f"p{patient}_{number}" for patient in range(6) for number in range(2)])
    return table(root, "patient,side", *thirds([f"p{number}" for number in range(6)])) | {
        "patient_pattern": r"(?P<patient>p\d)_\d"
    }


@row(
    "a split file by picture", "*: these patients are on two sides: p0 (train, val), p1 (test, train), p2 (test, val)."
)
def _(root):
    names = [f"p{patient}_{number}" for patient in range(3) for number in range(2)]
    pairs(root, names)
    return table(root, "file,side", *thirds([f"{name}.png" for name in names])) | {
        "patient_pattern": r"(?P<patient>p\d)_\d"
    }


@row("a side that is none", "*split.csv, line 3: needs a case and a side: train, val or test.")
def _(root):
    pairs(root, "abc")
    return table(root, "case,side", "a,train", "b,tset", "c,val")


@row(
    "folds of nnU-Net's",
    "The split is that of *splits_final.json.",
    "It has no test side, so *",
    "by case",
    never=NEVER,
)
def _(root):
    volumes(root, "abcdef")
    folds = [{"train": list("cdef"), "val": list("ab")}, {"train": list("abef"), "val": list("cd")}]
    return _folds(root, folds) | {"fold": 1, "folds": 2}


@row("a case on both sides of nnU-Net's fold", "*: these cases are on two sides: c (train, val).")
def _(root):
    volumes(root, "abcdef")
    return _folds(root, [{"train": list("cdef"), "val": list("abc")}])


@row(
    "a fold that nnU-Net's file lacks",
    "*: has 1 fold, and config.data.fold=3 of folds=5 is asked for: set fold from 0 *",
)
def _(root):
    volumes(root, "abcdef")
    return _folds(root, [{"train": list("cdef"), "val": list("ab")}]) | {"fold": 3, "folds": 5}


def _folds(root, folds):
    path = root.parent / "splits_final.json"
    path.write_text(json.dumps(folds))
    return {"split_file": str(path)}


@row(
    "one split where folds are asked for",
    "*split.csv: is one split, and config.data.folds=5 asks for folds: set it to 0.",
)
def _(root):
    pairs(root, "abcdef")
    return table(root, "case,side", *thirds("abcdef")) | {"folds": 5}


@row("slices drawn one by one", "leaky: slices of one patient stand on several sides", never=NEVER)
def _(root):
    scans(root)
    return {"split_by": "slice"}


# Names that can be read two ways.


@row(
    "a scan that is there compressed and not",
    "imagesTr/a_0000.nii: is called as imagesTr/a_0000.nii.gz is, and could *",
)
def _(root):
    volumes(root, "abcd")
    save(root / "imagesTr" / "a_0000.nii", np.zeros((16, 16, 4), np.int16))


@row(
    "a case that is called by four digits",
    "imagesTr/scan_0001.nii.gz: can be read as channel 1 of scan, or as the case scan_0001, whose mask is "
    "labelsTr/scan_0001.nii.gz: then name it scan_0001_0000.nii.gz.",
)
def _(root):
    volumes(root, ["a", "b", "c", "scan_0001"])
    (root / "imagesTr" / "scan_0001_0000.nii.gz").rename(root / "imagesTr" / "scan_0001.nii.gz")


@row(
    "a mask with a mark and one without", "masks/a_mask.png: can be the mask of images/a.png, and so can masks/a.png: *"
)
def _(root):
    for seed, name in enumerate("abcd"):
        write(root / "images" / f"{name}.png", picture(seed))
        write(root / "masks" / f"{name}.png", disc(seed))
    write(root / "masks" / "a_mask.png", 0 * disc(0))


# Sides with nothing to find.


@row(
    "a side without any tumour",
    "No mask of the 3 pictures of the test side has a marked pixel: its scores say nothing.",
)
def _(root):
    for seed in range(9):
        side = ("train", "val", "test")[seed // 3]
        pair(root, f"{side}/{seed}", seed, mask=0 * disc(0) if side == "test" else None)


@row(
    "nothing marked anywhere",
    "No mask of the data has a marked pixel, so there is nothing to learn: check the masks, *",
)
def _(root):
    for seed in range(6):
        pair(root, str(seed), seed, mask=0 * disc(0))


@row(
    "a class that a side lacks",
    "No mask of the 2 pictures of the val side has core: its scores say nothing of that class.",
)
def _(root):
    for seed in range(6):
        side = ("train", "val", "test")[seed // 2]
        mask = disc(seed) // 255
        mask[4, 4] = 1 if side == "val" else 2
        pair(root, f"{side}/{seed}", seed, mask=mask)
    return {"labels": "edema=1, core=2"}


def matches(line, expected):
    return fnmatch.fnmatchcase(line, re.sub(r"([\[\]?])", "[\\1]", expected))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_could_flatter_is_said(row, tmp_path):
    root = tmp_path / "data"
    lines = _told(root, tmp_path / "run", row.make(root) or {})
    for expected in row.lines:
        assert any(matches(line, expected) for line in lines), (expected, lines)
    for forbidden in row.never:
        assert not any(matches(line, forbidden) for line in lines), (forbidden, lines)


def test_the_table_has_the_rows_that_are_promised():
    assert len({row.name for row in ROWS}) == len(ROWS) >= 25


def test_a_split_file_that_changes_while_its_run_goes_on_is_refused(tmp_path):
    root = tmp_path / "data"
    pairs(root, "abcdef")
    changes = table(root, "case,side", *thirds("abcdef"))
    (tmp_path / "run").mkdir()
    assert "by picture" in _told(root, tmp_path / "run", changes)
    cases = [Case(name, name, np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2), np.uint8)) for name in "abcdef"]
    written = splits.Split("patient", {"a": ["a"], "d": ["d"]}, {"b": ["b"], "e": ["e"]}, {"c": ["c"], "f": ["f"]})
    splits.write(written, tmp_path / "run" / "split.json")
    assert splits.read(tmp_path / "run" / "split.json", cases) == written
    assert not any("another split" in line for line in _told(root, tmp_path / "run", changes))
    table(root, "case,side", *thirds("bacdef"))
    assert _told(root, tmp_path / "run", changes)[-1].startswith(
        f"{tmp_path}/run/split.json: is another split than config.data.split_file="
    )

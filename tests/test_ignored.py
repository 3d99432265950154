"""Runs on masks with pixels that are left out, from the files to scores and predictions."""

import json

import cv2
import nibabel
import numpy as np
from volumes import write

from unet_jax.data.load import load
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.inference.predict import predict
from unet_jax.run import history
from unet_jax.training.train import train

SIZE = 16
# The columns from here on are left out.
EDGE = 10
BASE = {
    "data.val_fraction": 0.25,
    "data.test_fraction": 0.25,
    "train.batch_size": 2,
    "train.epochs": 2,
    "train.patience": 0,
    "train.log_every_steps": 1,
    "train.checkpoint_every_steps": 0,
    "train.tensorboard": False,
    "eval.checkpoint": "newest",
}


def _write_pictures(root, ignored):
    """Bright squares; beside each lies a stripe of noise, whose mask holds any of some values."""
    rng, others = np.random.default_rng(0), np.random.default_rng(ignored[0])
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        image, mask = rng.integers(0, 60, (SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
        top, left = rng.integers(0, 6, 2)
        mask[top : top + 6, left : left + 6] = 1
        image[mask > 0] += 150
        image[:, EDGE:] = rng.integers(0, 256, (SIZE, SIZE - EDGE))
        mask[:, EDGE:] = others.choice(ignored, (SIZE, SIZE - EDGE))
        cv2.imwrite(str(root / "images" / f"p{number}.png"), image)
        cv2.imwrite(str(root / "masks" / f"p{number}.png"), mask)


def _counts(predicted, mask, ignored):
    """True and false positive, and false negative pixels, where somebody labelled."""
    predicted, mask = (predicted > 0) & ~ignored, (mask > 0) & ~ignored
    return [int(np.count_nonzero(each)) for each in (predicted & mask, predicted & ~mask, ~predicted & mask)]


def _losses(workdir):
    return [record["loss"] for record in history.read(workdir) if "loss" in record]


def test_pictures(configure, tmp_path):
    settings = BASE | {
        "data.source": "pairs",
        "data.root": str(tmp_path / "data"),
        "data.cache": str(tmp_path / "cache"),
        "data.labels": "tumour=1, ignore=7+8",
        "data.image_size": SIZE,
        "model.width": 4,
        "model.depth": 2,
        "optim.learning_rate": 0.02,
        "optim.warmup_steps": 1,
    }
    workdir = tmp_path / "run"
    _write_pictures(tmp_path / "data", [7, 8])
    train(configure(settings), workdir)
    _write_pictures(tmp_path / "garbage", [9, 10, 255])
    other = {"data.root": str(tmp_path / "garbage"), "data.labels": "tumour=1, ignore=9+10+255"}
    train(configure(settings | other), tmp_path / "other")
    assert len(_losses(workdir)) == 6
    assert _losses(workdir) == _losses(tmp_path / "other")
    metrics = evaluate(workdir, side="all", output=tmp_path / "scores")
    predict(workdir, tmp_path / "data" / "images", tmp_path / "masks")
    total = np.zeros(3, np.int64)
    for number in range(12):
        predicted = cv2.imread(str(tmp_path / "masks" / f"p{number}_mask.png"), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(tmp_path / "data" / "masks" / f"p{number}.png"), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(predicted)) <= {0, 255}
        total += _counts(predicted, np.where(mask == 1, 1, 0), mask > 1)
    assert total[0] > 0
    rows = (tmp_path / "scores" / "cases.csv").read_text().splitlines()
    names = rows[0].split(",")
    values = [dict(zip(names, row.split(","), strict=True)) for row in rows[1:]]
    keys = ("true_positive", "false_positive", "false_negative")
    assert [sum(int(row[key]) for row in values) for key in keys] == total.tolist()
    assert {row["voxels"] for row in values} == {str(SIZE * EDGE)}
    assert metrics["split"] == "all"


def _ignore_a_side(root, ignored):
    """Puts any of some values into the last voxels of the first axis of every mask."""
    rng = np.random.default_rng(0)
    for path in sorted((root / "labelsTr").iterdir()):
        file = nibabel.load(path)
        mask = np.asarray(file.dataobj).copy()
        mask[EDGE:] = rng.choice(ignored, mask[EDGE:].shape)
        nibabel.save(nibabel.Nifti1Image(mask, file.affine), path)
    description = json.loads((root / "dataset.json").read_text())
    description["labels"]["ignore"] = 3
    (root / "dataset.json").write_text(json.dumps(description))


def test_patches(configure, tmp_path):
    root, garbage = (write(tmp_path / name) for name in ("Dataset001_Balls", "Dataset002_Garbage"))
    _ignore_a_side(root, [3])
    _ignore_a_side(garbage, [4, 5, 255])
    settings = BASE | {
        "data.source": "nifti",
        "data.root": str(root),
        "data.cache": str(tmp_path / "cache"),
        "data.patch": (8, 8, 8),
        "train.steps_per_epoch": 3,
        "model": {"name": "nnunet", "features": (4, 8), "rank": 3, "deep_supervision": True},
        "loss": {"ce": 1.0, "dice": 1.0},
        "augment.transpose": 0.0,
        "augment.rot90": 0.0,
        "augment.affine.probability": 0.0,
    }
    config, workdir = configure(settings), tmp_path / "run"
    train(config, workdir)
    other = {"data.root": str(garbage), "data.labels": "a=1, b=2, ignore=4+5+255"}
    train(configure(settings | other), tmp_path / "other")
    assert len(_losses(workdir)) == 6
    assert np.isfinite(_losses(workdir)).all()
    assert _losses(workdir) == _losses(tmp_path / "other")
    evaluate(workdir, side="all", output=tmp_path / "scores")
    predict(workdir, root / "imagesTr", tmp_path / "masks")
    data = load(config)
    assert data.ignores
    assert list(data.classes) == ["a", "b"]
    scored = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    expected = {"a": np.zeros(3, np.int64), "b": np.zeros(3, np.int64)}
    voxels = 0
    for path in sorted((root / "labelsTr").iterdir()):
        mask = np.asarray(nibabel.load(path).dataobj)
        predicted = np.asarray(nibabel.load(tmp_path / "masks" / path.name.replace(".", "_mask.", 1)).dataobj)
        assert set(np.unique(predicted)) <= {0, 1, 2}
        voxels += np.count_nonzero(mask != 3)
        for number, name in enumerate(expected, 1):
            expected[name] += _counts(predicted == number, mask == number, mask == 3)
    rows = (tmp_path / "scores" / "cases.csv").read_text().splitlines()
    names = rows[0].split(",")
    values = [dict(zip(names, row.split(","), strict=True)) for row in rows[1:]]
    for name, counts in expected.items():
        of_class = [row for row in values if row["class"] == name]
        assert sum(int(row["voxels"]) for row in of_class) == voxels
        for place, key in enumerate(("true_positive", "false_positive", "false_negative")):
            assert sum(int(row[key]) for row in of_class) == counts[place]
    assert scored["classes"].keys() == {"a", "b"}

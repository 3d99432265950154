"""Runs on patches, from the files to masks: training, resuming, scoring, prediction."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import nibabel
import numpy as np
import orbax.checkpoint as ocp
import pytest
from volumes import write

import unet_jax
from configs import nnunet
from unet_jax.data.formats import sources, unlabelled
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.load import load
from unet_jax.errors import InputError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.inference.predict import predict
from unet_jax.plan import run_plan
from unet_jax.run import history
from unet_jax.runtime.mesh import data_mesh
from unet_jax.training import setup
from unet_jax.training.train import train

SETTINGS = {
    "data.source": "nifti",
    "data.val_fraction": 0.25,
    "data.test_fraction": 0.25,
    "data.patch": (8, 8, 8),
    "data.spacing": (1.2, 1.2, 1.2),
    "train.batch_size": 2,
    "train.steps_per_epoch": 3,
    "train.epochs": 2,
    "train.patience": 0,
    "train.checkpoint_every_steps": 1,
    "train.log_every_steps": 1,
    "train.tensorboard": False,
    "eval.checkpoint": "newest",
    "model": {"name": "nnunet", "features": (4, 8), "rank": 3, "deep_supervision": True},
    "loss": {"ce": 1.0, "dice": 1.0},
    "augment.transpose": 0.0,
    "augment.rot90": 0.0,
    "augment.affine.probability": 0.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("patches")


@pytest.fixture(scope="module")
def config(configure, folder):
    root = write(folder / "Dataset001_Balls")
    return configure(SETTINGS | {"data.root": str(root), "data.cache": str(folder / "cache")})


@pytest.fixture(scope="module")
def workdir(config, folder):
    train(config, folder / "run")
    return folder / "run"


PROGRAM = """
import json, sys
from pathlib import Path
from configs import default
from unet_jax.run.resolve import resolve
from unet_jax.training.train import train
given = {key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(sys.argv[1]).items()}
config = default.get_config()
config.update_from_flattened_dict(given)
train(resolve(config, given)[0], Path(sys.argv[2]))
"""


def losses(workdir):
    return [record["loss"] for record in history.read(workdir) if "loss" in record]


def weights(workdir):
    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    return ocp.PyTreeCheckpointer().restore((newest / "model").absolute())


def test_the_folder_says_all(config, workdir):
    recorded = json.loads((workdir / "config.json").read_text())
    assert recorded["data"]["patch"] == [8, 8, 8]
    assert "patches" in json.loads((workdir / "plan.json").read_text())["configurations"]
    assert len(losses(workdir)) == 6
    # The same command again trains nothing.
    train(config, workdir)
    assert len(losses(workdir)) == 6


def test_scoring_the_validation_side_gives_what_validation_gave(workdir):
    last = history.epochs_of(history.read(workdir))[-1]
    metrics = evaluate(workdir, side="val")
    assert metrics["dice_per_patient"]["mean"] == last["val_dice"]
    assert metrics["dice_per_slice"]["mean"] == last["val_dice_per_slice"]


def test_masks_lie_where_their_images_do(config, workdir, tmp_path):
    images = Path(config.data.root) / "imagesTr"
    rows = predict(workdir, images, tmp_path / "masks", probabilities=True, overlays=True)
    segment = unet_jax.load(workdir)
    for number in range(2):
        path = images / f"case_{number}_0000.nii.gz"
        image, mask = nibabel.load(path), nibabel.load(tmp_path / "masks" / f"case_{number}_mask.nii.gz")
        np.testing.assert_array_equal(image.affine, mask.affine)
        assert image.shape == mask.shape
        # The function on arrays finds the same.
        reader, root = unlabelled.image_reader(path, sources.Settings(intensity="range"))
        case = reader.decode(reader.find(root)[0], lambda path, root=root: read_file(root, path))
        found = segment(case.image, case.spacing)
        assert sorted(np.bincount(found.ravel(), minlength=3)) == sorted(
            np.bincount(np.asarray(mask.dataobj, np.uint8).ravel(), minlength=3)
        )
        likeliest = segment.probabilities(case.image, case.spacing).argmax(-1)
        np.testing.assert_array_equal(likeliest, found)
    assert len(rows) == 2 * len(list(images.iterdir()))
    with pytest.raises(InputError, match="give the image's spacing"):
        segment(case.image)


def test_a_run_that_is_killed_resumes_to_the_same_weights(config, workdir, tmp_path):
    given = {**SETTINGS, "data.root": config.data.root, "data.cache": config.data.cache}
    killed = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", PROGRAM, json.dumps(given), str(killed)], env=dict(os.environ)) as run:
        while run.poll() is None and not (killed / "checkpoints" / "2").exists():
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert len(losses(killed)) < 6
    train(config, killed)
    assert losses(killed) == losses(workdir)
    for one, other in zip(jax.tree.leaves(weights(killed)), jax.tree.leaves(weights(workdir)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_slices_of_pictures(configure, phantom_files, tmp_path):
    """A patch of two axes is a slice: one class, 8 bits, and a network of another family."""
    changes = {"data.root": str(phantom_files), "data.source": "lgg", "data.cache": str(tmp_path / "cache")}
    changes |= {"data.patch": (16, 16), "data.spacing": None, "augment.rot90": 0.5, "augment.transpose": 0.5}
    given = {**SETTINGS, **changes, "train.epochs": 1, "eval.threshold": 0.4, "eval.tta": True}
    given |= {"model": {"name": "tutorial", "width": 2, "depth": 2}, "loss": {"bce": 1.0, "dice": 1.0}}
    config = configure(given)
    metrics = train(config, tmp_path / "run")
    assert metrics["threshold"] == 0.4
    scan = sorted(path for path in phantom_files.iterdir() if path.is_dir())[0]
    assert predict(tmp_path / "run", scan, tmp_path / "masks", probabilities=True)
    data = load(config)
    segment = unet_jax.load(tmp_path / "run")
    image = np.asarray(data.cases[0].image)
    np.testing.assert_array_equal(segment.probabilities(image) >= 0.4, segment(image) > 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.patch": (8, 8)}, r"config\.data\.patch is \(8, 8\), and config\.model\.rank is 3"),
        ({"data.patch": (8, 8, 9)}, r"divide by 2"),
        ({"train.steps_per_epoch": 0}, r"steps_per_epoch is 0"),
        ({"data.foreground_share": 1.5}, r"foreground_share is 1\.5"),
        ({"data.slab": 4}, r"config\.data\.slab: not for patches"),
        ({"data.split_by": "slice"}, r"cut from whole cases"),
        ({"data.patch": None, "data.spacing": None}, r"are for patches: set config\.data\.patch"),
        ({"train.batch_size": None}, r"there is no plan to take it from"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_said(configure, changes, message):
    with pytest.raises(InputError, match=message):
        setup.check(configure(SETTINGS | {"data.root": ".", **changes}), data_mesh(), ("a", "b"))


def test_a_planned_run(folder, tmp_path, monkeypatch):
    original = run_plan.take_fingerprint
    monkeypatch.setattr(run_plan, "take_fingerprint", lambda *args, **_: original(*args, samples=10**4))
    config = nnunet.get_config()
    config.plan.configuration = "3d_fullres"
    given = {
        key: value for key, value in SETTINGS.items() if key not in ("model", "loss", "data.patch", "data.spacing")
    }
    given |= {"data.root": str(folder / "Dataset001_Balls"), "data.cache": str(folder / "cache"), "data.folds": 0}
    given |= {"train.batch_size": None, "train.epochs": 1, "model.features": (4, 4, 4)}
    config.update_from_flattened_dict(given)
    config = config.copy_and_resolve_references()
    metrics = train(config, tmp_path / "run")
    assert metrics["cases"] > 0
    again = evaluate(tmp_path / "run")
    assert again["dice_per_patient"] == metrics["dice_per_patient"]
    # The recipe as it was given is the run that is there.
    assert train(config, tmp_path / "run")["dice_per_patient"] == metrics["dice_per_patient"]

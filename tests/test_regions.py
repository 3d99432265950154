"""Runs of classes that overlap, from masks of values to sigmoids, scores and painted masks: slices, and patches."""

import json
import shutil
from pathlib import Path

import class_runs
import cv2
import jax
import jax.numpy as jnp
import nibabel
import numpy as np
import pytest
from class_runs import SIZE

import unet_jax
from unet_jax.data.load import load
from unet_jax.errors import InputError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.export.export import export
from unet_jax.files import read_json, write_sealed_json
from unet_jax.inference import postprocess
from unet_jax.inference.predict import predict
from unet_jax.run.config import read_config
from unet_jax.training.step_inputs import augmented
from unet_jax.training.step_settings import StepSettings
from unet_jax.training.train import train

LABELS = "whole=1+2+4, core=1+4, enhancing=4"
VALUES = {"whole": (1, 2, 4), "core": (1, 4), "enhancing": (4,)}
# What is painted first.
PAINTED = VALUES | {"whole": (2, 1, 4)}
# By their numbers in a mask.
NUMBERS = np.array([0, 1, 2, 4])


def nested(rng, shape):
    """An image and its mask: edema of value 2, in it a core of 1, and in that what enhances, of 4."""
    corner = rng.integers(0, 4, len(shape))
    mask = np.zeros(shape, np.uint8)
    for margin, value in ((0, 2), (2, 1), (4, 4)):
        mask[tuple(slice(start + margin, start + 13 - margin) for start in corner)] = value
    image = np.select([mask == 2, mask == 1, mask == 4], [90, 160, 240], 20) + rng.integers(-9, 10, shape)
    return image.astype(np.uint8), mask


@pytest.fixture(scope="module")
def config(configure, tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("regions") / "data", np.random.default_rng(0)
    for patient in range(16):
        for number in range(3):
            class_runs.write_pair(root, patient, number, *nested(rng, (SIZE, SIZE)))
    changes = {"train.epochs": 8, "train.tensorboard": False, "optim.learning_rate": 0.03}
    return configure(class_runs.settings(root, LABELS) | changes)


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(config, folder)
    return folder


@pytest.fixture(scope="module")
def by_hand(config, workdir):
    """Each case's name, image, true values [d, h, w], and probabilities [d, h, w, 3] from the network."""
    return [
        (name, image, NUMBERS[mask], probability)
        for name, image, mask, probability in class_runs.answers(config, workdir)
    ]


def painted(probability):
    """Values: 2 for the whole, 1 over it for the core, 4 over both."""
    mask = np.zeros(probability.shape[:-1], np.uint8)
    for channel, value in enumerate((2, 1, 4)):
        mask[probability[..., channel] > 0.5] = value
    return mask


def test_each_region_has_a_score_of_its_own(workdir, by_hand):
    metrics = evaluate(workdir, side="all")
    assert list(metrics["classes"]) == list(VALUES)
    for name, of_class in VALUES.items():
        dices = []
        for _, _, truth, probability in by_hand:
            found, there = np.isin(painted(probability), of_class), np.isin(truth, of_class)
            dices.append(2 * (found & there).sum() / (found.sum() + there.sum()))
        assert metrics["classes"][name]["dice_per_patient"]["mean"] == pytest.approx(np.mean(dices)), name
        assert np.mean(dices) > 0.6, name
    assert json.loads((workdir / "classes.json").read_text())["whole"] == [2, 1, 4]


def test_masks_are_written_in_the_values_of_the_files(config, workdir, by_hand, tmp_path):
    rows = predict(workdir, Path(config.data.root), tmp_path, probabilities=True, overlays=True)
    for name, image, _, probability in by_hand:
        expected = painted(probability)
        volumes = [int(row["volume"]) for row in rows if row["case"] == name]
        assert volumes == [np.isin(expected, values).sum() for values in VALUES.values()]
        for number in range(len(image)):
            mask, *found = (
                cv2.imread(str(tmp_path / "images" / f"{name}_{number}_{kind}.png"), cv2.IMREAD_UNCHANGED)
                for kind in ("mask", "probability_2", "probability_1", "probability_4")
            )
            np.testing.assert_array_equal(mask, expected[number])
            np.testing.assert_allclose(found, np.rint(np.moveaxis(probability[number], -1, 0) * 65535), atol=1)


def test_a_run_is_loaded_with_the_numbers_of_each_region(workdir, by_hand):
    segment = unet_jax.load(workdir)
    assert segment.classes == tuple(VALUES)
    assert segment.members == ((1, 2, 3), (1, 3), (3,))
    _, image, _, probability = by_hand[1]
    np.testing.assert_allclose(segment.probabilities(image), probability, atol=1e-6)
    np.testing.assert_array_equal(NUMBERS[segment(image)], painted(probability))


def test_post_processing_cleans_each_region_and_paints_them_again(workdir, by_hand, tmp_path):
    folder = tmp_path / "cleaned"
    shutil.copytree(workdir, folder)
    settings = {"minimum_voxels": 30, "largest_component": True}
    content = read_json(folder / "config.json")
    content["eval"]["postprocess"] = settings
    write_sealed_json(folder / "config.json", content)
    metrics = evaluate(folder, side="all")
    assert [effect["step"] for effect in metrics["postprocess"]] == ["minimum_voxels", "largest_component"]
    dices = {name: [] for name in VALUES}
    for _, _, truth, probability in by_hand:
        mask = np.searchsorted(NUMBERS, painted(probability)).astype(np.uint8)
        cleaned = NUMBERS[postprocess.apply(mask, settings, PAINTED)]
        for name, of_class in VALUES.items():
            found, there = np.isin(cleaned, of_class), np.isin(truth, of_class)
            dices[name].append(2 * (found & there).sum() / (found.sum() + there.sum()))
    for name, of_class in dices.items():
        assert metrics["classes"][name]["dice_per_patient"]["mean"] == pytest.approx(np.mean(of_class)), name
    np.testing.assert_array_equal(NUMBERS[unet_jax.load(folder)(by_hand[-1][1])], cleaned)


@pytest.mark.parametrize("suffix", ["zip", "onnx"])
def test_programs_answer_with_a_probability_a_region(workdir, tmp_path, suffix):
    facts = export(workdir, tmp_path / f"run.{suffix}")
    assert facts["output"]["shape"][-1] == 3
    assert facts["output"]["is"] == "probabilities of whole, core, enhancing"
    assert facts["members"] == ((1, 2, 3), (1, 3), (3,))
    assert facts["painted"] == (2, 1, 3)


def test_targets_are_a_channel_a_region(config):
    settings = StepSettings.of(config, load(config).classes, ignores=True)
    assert settings.loss == {"bce": {"weight": 3.0}, "dice": {"weight": 1.0, "sigmoid": True}}
    mask = np.zeros((1, SIZE, SIZE), np.uint8)
    mask[0, 0, :5] = (0, 1, 2, 3, 255)
    plain = dict.fromkeys(("flip_rows", "flip_columns", "transpose", "rot90"), 0.0)
    still = config.augment.to_dict() | plain | {"affine": {"probability": 0.0}}
    settings = StepSettings(SIZE, settings.loss, still, 0, 3, members=settings.members, ignores=True)
    batch = {"image": jnp.zeros((1, SIZE, SIZE, 1), jnp.uint8), "mask": jnp.asarray(mask)}
    _, targets = augmented(jax.random.key(0), batch, settings)
    assert targets.shape == (1, SIZE, SIZE, 4)
    assert targets[0, 0, :5].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert not targets[0, 1:].any()


def test_what_does_not_suit_regions_is_refused(config, workdir, tmp_path):
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.loss = {"focal": 1.0}
    with pytest.raises(InputError, match=r"config\.loss\.focal is a loss for classes that exclude each other"):
        train(changed, tmp_path / "run")
    shutil.copytree(workdir, tmp_path / "other")
    (tmp_path / "other" / "classes.json").write_text('{"whole": [2, 1, 4], "core": [1, 2], "enhancing": [4]}')
    with pytest.raises(InputError, match=r"core=1\+4, .* was trained on whole=2\+1\+4, core=1\+2"):
        evaluate(tmp_path / "other")


@pytest.fixture(scope="module")
def patches(configure, tmp_path_factory):
    """A run on patches of volumes that nnU-Net's dataset.json describes, with an order of its own."""
    folder, rng = tmp_path_factory.mktemp("patches"), np.random.default_rng(1)
    root = folder / "Dataset001_Nested"
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    for number in range(6):
        image, mask = nested(rng, (SIZE, SIZE, SIZE))
        mask = np.array([0, 2, 1, 0, 3], np.uint8)[mask]
        for array, path in ((image.astype(np.float32), f"imagesTr/c{number}_0000"), (mask, f"labelsTr/c{number}")):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), root / f"{path}.nii.gz")
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
        "regions_class_order": [1, 2, 3],
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description))
    config = configure(
        {
            "data.source": "nifti",
            "data.root": str(root),
            "data.cache": str(folder / "cache"),
            "data.val_fraction": 0.2,
            "data.test_fraction": 0.2,
            "data.patch": (12, 12, 12),
            "data.spacing": (1.1, 1.1, 1.1),
            "train.batch_size": 2,
            "train.steps_per_epoch": 12,
            "train.epochs": 2,
            "train.patience": 0,
            "train.tensorboard": False,
            "eval.checkpoint": "newest",
            "eval.tta": False,
            "model": {"name": "nnunet", "features": (4, 8), "rank": 3, "deep_supervision": True},
            "loss": {"ce": 1.0, "dice": 1.0},
            "optim.learning_rate": 0.02,
            "optim.warmup_steps": 1,
            "augment_patches.rotation.probability": 0.0,
        }
    )
    train(config, folder / "run")
    return folder / "run", root


@pytest.mark.slow
def test_patches_learn_regions_and_paint_them(patches, tmp_path):
    workdir, root = patches
    metrics = json.loads((workdir / "evaluation" / "test" / "metrics.json").read_text())
    assert list(metrics["classes"]) == list(VALUES)
    assert metrics["classes"]["whole"]["dice_per_patient"]["mean"] > 0.5
    predict(workdir, root / "imagesTr" / "c0_0000.nii.gz", tmp_path, probabilities=True)
    mask, *found = (
        np.asarray(nibabel.load(tmp_path / f"c0_{kind}.nii.gz").dataobj)
        for kind in ("mask", "probability_1", "probability_2", "probability_3")
    )
    expected = np.zeros_like(mask)
    for value, probability in enumerate(found, 1):
        expected[probability > 0.5] = value
    np.testing.assert_array_equal(mask, expected)
    segment = unet_jax.load(workdir)
    case = load(read_config(workdir)).cases[0]
    probability = segment.probabilities(case.image, case.spacing)
    assert probability.shape == (*case.mask.shape, 3)
    # Sigmoids, that need not sum to 1.
    assert probability.sum(-1).max() > 1.2
    facts = export(workdir, tmp_path / "run.zip")
    assert facts["painted"] == (1, 2, 3)
    assert facts["mask_differs"] <= 1e-3

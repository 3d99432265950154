"""A run of several classes, from masks with values of their own to scores, masks, pages and programs."""

import csv
import json
import shutil
from pathlib import Path

import class_runs
import cv2
import nibabel
import numpy as np
import pytest
from class_runs import SIZE

import unet_jax
from unet_jax.colours import rgb_of
from unet_jax.crossval.crossval import crossval
from unet_jax.errors import InputError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.export.export import export
from unet_jax.files import read_json
from unet_jax.inference import postprocess
from unet_jax.inference.predict import predict
from unet_jax.training.train import train

LABELS = "edema=50, core=200"
NAMES = ("edema", "core")


def write_pairs(root, patients=20, slices=4, seed=0):
    """Pictures in which edema is grey and core is white, in noise; one patient has no core."""
    rng = np.random.default_rng(seed)
    for patient in range(patients):
        for number in range(slices):
            mask = np.zeros((SIZE, SIZE), np.uint8)
            top, left = rng.integers(0, 7, 2)
            mask[top : top + 8, left : left + 8] = 50
            mask[top + 2 : top + 6, left + 2 : left + 6] = 200 if patient else 50
            image = np.select([mask == 50, mask == 200], [120, 230], 20) + rng.integers(-15, 16, mask.shape)
            class_runs.write_pair(root, patient, number, image, mask)


@pytest.fixture(scope="module")
def config(configure, tmp_path_factory):
    root = tmp_path_factory.mktemp("classes") / "data"
    write_pairs(root)
    changes = {"train.epochs": 6, "optim.learning_rate": 0.02, "eval.postprocess.minimum_voxels": 2}
    return configure(class_runs.settings(root, LABELS) | changes)


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(config, folder)
    return folder


@pytest.fixture(scope="module")
def by_hand(config, workdir):
    return class_runs.answers(config, workdir)


def _dice(predicted, truth):
    sizes = predicted.sum() + truth.sum()
    return 2 * (predicted & truth).sum() / sizes if sizes else None


def test_the_run_records_its_classes_and_learns_them(config, workdir):
    assert list(read_json(workdir / "classes.json").items()) == [("edema", [50]), ("core", [200])]
    metrics = json.loads((workdir / "evaluation" / "test" / "metrics.json").read_text())
    assert list(metrics["classes"]) == list(NAMES)
    assert metrics["threshold"] is None
    assert min(of["dice_per_patient"]["mean"] for of in metrics["classes"].values()) > 0.8
    # The same command scores the finished run again.
    assert train(config, workdir)["dice_per_patient"] == metrics["dice_per_patient"]


def test_scores_are_those_of_the_likeliest_class(workdir, by_hand):
    metrics = evaluate(workdir, side="all")
    with open(workdir / "evaluation" / "all" / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(by_hand)
    found = {(row["case"], row["class"]): float(row["dice"]) for row in rows if row["dice"]}
    expected = {}
    for name, _, mask, probability in by_hand:
        assert probability.shape == (*mask.shape, 3)
        np.testing.assert_allclose(probability.sum(-1), 1, atol=1e-5)
        for number, of_class in enumerate(NAMES, 1):
            dice = _dice(probability.argmax(-1) == number, mask == number)
            if dice is not None:
                expected[name, of_class] = dice
    of_patients = [np.mean([dice for (case, _), dice in expected.items() if case == name]) for name, *_ in by_hand]
    before = metrics["postprocess"][0]["before"]["dice_per_patient"]["mean"]
    assert before == pytest.approx(np.mean(of_patients))
    # Post-processing drops single voxels.
    assert found == pytest.approx(expected, abs=0.05)
    for number, of_class in enumerate(NAMES, 1):
        mean = np.mean([dice for (_, name), dice in found.items() if name == of_class])
        assert metrics["classes"][of_class]["dice_per_patient"]["mean"] == pytest.approx(mean), number
    by_case = {}
    for (case, _), dice in found.items():
        by_case.setdefault(case, []).append(dice)
    means = [np.mean(dices) for dices in by_case.values()]
    assert means == sorted(means)
    assert metrics["dice_per_patient"]["mean"] == pytest.approx(np.mean(means))


def _as_written(config, probability):
    mask = postprocess.apply(probability.argmax(-1).astype(np.uint8), config.eval.postprocess.to_dict())
    return np.select([mask == 1, mask == 2], [50, 200], 0)


def test_pictures_are_predicted_with_the_values_of_the_masks(config, workdir, by_hand, tmp_path):
    rows = predict(workdir, Path(config.data.root), tmp_path, probabilities=True, overlays=True)
    assert [(row["case"], row["class"]) for row in rows[:2]] == [("p0", "edema"), ("p0", "core")]
    assert len(rows) == 2 * len(by_hand)
    for name, image, _, probability in by_hand:
        expected = _as_written(config, probability)
        volumes = [int(row["volume"]) for row in rows if row["case"] == name]
        assert volumes == [(expected == value).sum() for value in (50, 200)]
        for number in range(len(image)):
            mask, edema, core = (
                cv2.imread(str(tmp_path / "images" / f"{name}_{number}_{kind}.png"), cv2.IMREAD_UNCHANGED)
                for kind in ("mask", "probability_50", "probability_200")
            )
            np.testing.assert_array_equal(mask, expected[number])
            for channel, found in ((1, edema), (2, core)):
                np.testing.assert_allclose(found, np.rint(probability[number, ..., channel] * 65535), atol=1)
            overlay = cv2.imread(str(tmp_path / "overlays" / name / f"{number + 1}.png"))[..., ::-1]
            colours = {rgb_of(1), rgb_of(2)} if (expected[number] == 200).any() else {rgb_of(1)}
            coloured = {tuple(pixel) for pixel in overlay.reshape(-1, 3).tolist() if len(set(pixel)) > 1}
            assert coloured == colours


def test_nifti_is_predicted_with_the_values_of_the_masks(config, workdir, by_hand, tmp_path):
    image = by_hand[1][1][..., 0]
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(image.T), np.diag([0.5, 0.5, 3, 1])), tmp_path / "a.nii.gz")
    rows = predict(workdir, tmp_path / "a.nii.gz", tmp_path / "out", probabilities=True)
    mask, *found = (
        np.asarray(nibabel.load(tmp_path / "out" / f"a_{kind}.nii.gz").dataobj)
        for kind in ("mask", "probability_50", "probability_200")
    )
    likeliest = np.argmax([1 - found[0] - found[1], *found], axis=0).astype(np.uint8)
    numbers = postprocess.apply(likeliest, config.eval.postprocess.to_dict())
    np.testing.assert_array_equal(mask, np.array([0, 50, 200])[numbers])
    voxel = 0.5 * 0.5 * 3 / 1000
    assert [row["volume"] for row in rows] == pytest.approx([(mask == value).sum() * voxel for value in (50, 200)])


def test_a_run_is_loaded_as_a_function_to_class_numbers(config, workdir, by_hand):
    segment = unet_jax.load(workdir)
    assert segment.classes == NAMES
    _, image, _, probability = by_hand[2]
    np.testing.assert_allclose(segment.probabilities(image), probability, atol=1e-6)
    values = np.array([0, 50, 200])[segment(image)]
    np.testing.assert_array_equal(values, _as_written(config, probability))
    assert segment.probabilities(image[0]).shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("suffix", ["zip", "onnx"])
def test_programs_answer_with_the_probabilities_of_all_classes(workdir, tmp_path, suffix):
    facts = export(workdir, tmp_path / f"run.{suffix}")
    assert facts["max_difference"] <= 1e-5
    assert facts["classes"] == list(NAMES)
    assert facts["threshold"] is None
    assert facts["output"]["shape"][-1] == 3
    assert facts["output"]["is"] == "probabilities of background, edema, core"


def test_losses_of_one_class_are_refused_before_the_data_are_read(config, tmp_path):
    binary = config.copy_and_resolve_references()
    with binary.unlocked():
        binary.loss = {"bce": 1.0, "dice": 1.0}
    with pytest.raises(InputError, match=r"config\.loss\.bce is a loss for one class, and the masks have 2"):
        train(binary, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_for_one_class_alone_is_refused(config, tmp_path):
    one = config.copy_and_resolve_references()
    one.eval.choose_threshold = True
    with pytest.raises(InputError, match=r"config\.eval\.choose_threshold .* likeliest"):
        train(one, tmp_path / "run")
    with pytest.raises(InputError, match="crossval pools one class, and the masks tell edema, core apart"):
        crossval(config, tmp_path / "folds")


def test_data_of_other_classes_are_not_scored(workdir, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(workdir, changed)
    (changed / "classes.json").write_text('{"core": [200], "edema": [50]}')
    with pytest.raises(InputError, match=r"its masks have edema, core, and .* was trained on core, edema"):
        evaluate(changed)
    (changed / "classes.json").write_text('["core"]')
    with pytest.raises(InputError, match=r"classes\.json is not a list of classes"):
        evaluate(changed)

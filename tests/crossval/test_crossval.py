import csv
import json
import shutil
import threading

import numpy as np
import pytest
from processes import started

from unet_jax.crossval import crossval as verb
from unet_jax.crossval import folds
from unet_jax.crossval.crossval import crossval
from unet_jax.errors import InputError, StopRequestedError
from unet_jax.run import history
from unet_jax.runtime import lock
from unet_jax.training.train import train

# So low a threshold that even one epoch finds something.
RECIPE = {"train.epochs": 1, "data.folds": 2, "optim.learning_rate": 0.02, "eval.threshold": 0.1}


@pytest.fixture(scope="module")
def config(settings, configure):
    return configure(settings | RECIPE)


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "pooled"
    crossval(config, folder)
    return folder


@pytest.fixture
def copied(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "copied")
    return tmp_path / "copied"


def read(workdir):
    with open(workdir / "cases.csv", newline="") as file:
        return json.loads((workdir / "crossval.json").read_text()), list(csv.DictReader(file))


def forbid_training(monkeypatch):
    """Nor may the pictures be made anew, for which networks are loaded."""

    def fail(*arguments, **options):
        raise AssertionError("trained or segmented again")

    monkeypatch.setattr(verb, "train", fail)
    monkeypatch.setattr(verb.fold_pictures, "write", fail)


def test_every_patient_is_scored_once_by_a_network_that_never_saw_it(workdir, settings):
    results, rows = read(workdir)
    assert sorted(row["patient"] for row in rows) == sorted(results["dice_by_patient"])
    assert len(results["dice_by_patient"]) == len(rows) == results["patients"] == settings["phantom.patients"]
    for row in rows:
        split = json.loads((workdir / f"fold{row['fold']}" / "split.json").read_text())
        assert row["patient"] in split["test"]
        assert row["patient"] not in {**split["train"], **split["val"]}
        assert all(split[side] for side in ("train", "val", "test"))


def test_folds_that_end_together_are_pooled_one_after_the_other(copied):
    """Another process pools one fold; this one, which waits for it, pools both."""
    aside = copied / "fold1"
    aside.rename(copied / "elsewhere")
    results = []
    with lock.lock_folder(copied):
        waiting = threading.Thread(target=lambda: results.append(crossval(None, copied)))
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
        (copied / "elsewhere").rename(aside)
    waiting.join()
    assert results[0]["folds_scored"] == [0, 1]


def test_pooled_scores_are_those_of_all_patients_together(workdir):
    results, rows = read(workdir)
    dice = [float(row["dice"]) for row in rows]
    assert dice == sorted(dice)
    assert max(dice) > 0
    assert results["dice_per_patient"]["mean"] == pytest.approx(np.mean(dice))
    assert results["dice_per_patient"]["median"] == pytest.approx(np.median(dice))
    assert results["dice_per_patient"]["std"] == pytest.approx(np.std(dice, ddof=1))
    tp, fp, fn = (sum(int(row[key]) for row in rows) for key in ("true_positive", "false_positive", "false_negative"))
    assert results["dice_global"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    alone = [json.loads((workdir / f"fold{k}/evaluation/test/metrics.json").read_text()) for k in (0, 1)]
    assert results["slices"] == sum(one["slices"] for one in alone)
    total = sum(one["dice_per_slice"]["mean"] * one["slices"] for one in alone)
    assert results["dice_per_slice"]["mean"] == pytest.approx(total / results["slices"])
    assert [one["dice_per_patient"] for one in results["per_fold"]] == [one["dice_per_patient"] for one in alone]
    assert results["hd95_per_patient"]["unit"] == "pixels"
    seconds = [record.get("seconds", 0) for record in history.read(workdir / "fold1")]
    assert results["per_fold"][1]["minutes"] == pytest.approx(sum(seconds) / 60)
    assert results["recipe"]["optim.learning_rate"] == 0.02
    assert not any(key.startswith("scaled_down") for key in results["recipe"])
    assert not {"data.fold", "data.root", "data.cache"} & results["recipe"].keys()


def test_the_same_command_trains_nothing_anew(config, copied, monkeypatch, capsys):
    forbid_training(monkeypatch)
    before, _ = read(copied)
    assert crossval(config, copied, against=copied)["dice_by_patient"] == before["dice_by_patient"]
    assert "8 equal; none differs" in capsys.readouterr().out
    # Nor does the folder alone.
    assert crossval(None, copied)["dice_per_patient"] == before["dice_per_patient"]


def test_another_recipe_is_refused_in_the_same_folder(settings, configure, copied, monkeypatch):
    forbid_training(monkeypatch)
    with pytest.raises(InputError, match=r"config\.optim\.learning_rate: the run has 0\.02, this command 0\.001"):
        crossval(configure(settings | RECIPE | {"optim.learning_rate": 0.001}), copied)


def test_what_was_struck_goes_on_with_the_fold_it_was_in(config, copied, monkeypatch):
    shutil.rmtree(copied / "fold1")
    trained = []

    def stop(recipe, folder, **options):
        trained.append(folder.name)
        raise StopRequestedError("stopped")

    monkeypatch.setattr(verb, "train", stop)
    with pytest.raises(StopRequestedError):
        crossval(config, copied)
    assert trained == ["fold1"]


@pytest.mark.slow
def test_folds_trained_one_by_one_are_the_same_to_the_bit(config, workdir, tmp_path):
    alone = config.copy_and_resolve_references()
    alone.data.fold = 1
    train(alone, tmp_path / "fold1")
    results = crossval(None, tmp_path)
    assert (results["folds"], results["folds_scored"]) == (2, [1])
    whole, _ = read(workdir)
    assert results["per_fold"][0]["dice_per_patient"] == whole["per_fold"][1]["dice_per_patient"]
    assert results["dice_by_patient"].items() <= whole["dice_by_patient"].items()
    with pytest.raises(InputError, match=r"--against has other patients: 4 here, 8 there"):
        crossval(None, tmp_path, against=workdir)


def test_a_fold_counts_once_it_is_trained_to_its_end(copied):
    assert folds.is_scored(copied / "fold0")
    assert not folds.is_scored(copied / "fold2")
    path = copied / "fold0/evaluation/test/metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"checkpoint_step": 1}))  # scored before its last epoch
    assert not folds.is_scored(copied / "fold0")
    path.write_text(json.dumps(metrics))
    (copied / "fold0/history.jsonl").write_text("")
    assert not folds.is_scored(copied / "fold0")
    assert [fold.number for fold in folds.read(copied)] == [1]


def test_numbers_come_back_from_the_table_as_they_were(workdir):
    [row, *_] = folds.read(workdir)[0].rows
    kinds = {key: type(row[key]) for key in ("case", "slices", "dice", "voxels", "distance_unit")}
    assert kinds == {"case": str, "slices": int, "dice": float, "voxels": int, "distance_unit": str}


def test_errors(config, copied, tmp_path):
    with pytest.raises(InputError, match="holds no fold that is trained and scored"):
        crossval(None, tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    with pytest.raises(InputError, match="--fold is 2; it must be from 0 to 1"):
        crossval(config, copied, fold=2)
    with pytest.raises(InputError, match=r"has no crossval\.json"):
        crossval(None, copied, against=tmp_path)
    path = copied / "fold1/evaluation/test/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tta": True}))
    with pytest.raises(InputError, match=r"fold1: test/metrics\.json has .* bytes instead of .*: score the fold again"):
        crossval(None, copied)
    (path.parent / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"fold0 and .*fold1 differ in tta"):
        crossval(None, copied)
    (copied / "fold1").rename(copied / "fold3")
    with pytest.raises(InputError, match=r"fold3 holds fold 1 of 2"):
        crossval(None, copied)


@pytest.mark.slow
def test_two_processes_pool_what_one_does(workdir, settings, tmp_path):
    chosen = [f"--config.{key}={value}" for key, value in (settings | RECIPE).items()]
    arguments = ["--mode=crossval", "--config=configs/default.py", *chosen, f"--workdir={tmp_path / 'run'}"]
    with started(arguments, tmp_path) as running:
        assert running.codes(1200) == [0, 0], running.said()
    found, expected = read(tmp_path / "run"), read(workdir)
    assert found[0]["dice_by_patient"] == pytest.approx(expected[0]["dice_by_patient"], abs=1e-3)
    assert [row["case"] for row in found[1]] == [row["case"] for row in expected[1]]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in workdir.iterdir()}

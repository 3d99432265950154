import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from unet_jax.data import cache, lgg, splits
from unet_jax.errors import InputError
from unet_jax.evaluate import evaluate, load_segment
from unet_jax.inference import segment_volume
from unet_jax.sharding import by_batch, data_mesh
from unet_jax.train import train


@pytest.fixture(scope="module")
def config(settings, configure):
    return configure(settings | {"train.epochs": 8, "optim.learning_rate": 0.02})


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(config, folder)
    return folder


def by_hand(workdir, config, names):
    """Dice of each case, from whole masks that are compared pixel by pixel."""
    cases, _ = cache.load(lgg, Path(config.data.root), Path(config.data.cache))
    segment, _ = load_segment(workdir, config, 3, data_mesh())
    scores = {}
    for case in cases:
        if case.name in names:
            predicted = segment_volume(segment, case.image, 4, by_batch(data_mesh())) > 0
            truth = np.asarray(case.mask) > 0
            scores[case.name] = 2 * np.sum(predicted & truth) / (predicted.sum() + truth.sum())
    return scores


@pytest.mark.parametrize("side", ["test", "val", "train"])
def test_scores_are_those_of_the_masks(workdir, config, side):
    metrics = evaluate(workdir, side=side)
    split = json.loads((workdir / "split.json").read_text())
    names = [name for cases in split[side].values() for name in cases]
    expected = by_hand(workdir, config, names)
    with open(workdir / "evaluation" / side / "cases.csv", newline="") as file:
        found = {row["case"]: float(row["dice"]) for row in csv.DictReader(file)}
    assert found == pytest.approx(expected)
    assert metrics["dice_per_patient"]["mean"] == pytest.approx(np.mean(list(expected.values())))
    assert list(found.values()) == sorted(found.values())
    assert metrics["split"] == side
    assert metrics["split_by"] == "by patient"


def test_all_of_another_folder(workdir, config, tmp_path):
    metrics = evaluate(workdir, side="all")
    assert metrics["cases"] == 8
    assert metrics["split_by"] == "training cases included"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(config.data.root, elsewhere)
    assert evaluate(workdir, side="all", data=elsewhere)["dice_per_patient"] == metrics["dice_per_patient"]


def test_the_run_folder_is_enough(workdir, tmp_path):
    before = evaluate(workdir)
    moved = tmp_path / "moved"
    shutil.copytree(workdir, moved)
    shutil.rmtree(moved / "evaluation")
    assert evaluate(moved)["dice_per_patient"] == before["dice_per_patient"]


def test_a_leaky_split_says_so_beside_its_scores(settings, configure, tmp_path, capsys):
    metrics = train(configure(settings | {"data.split_by": "slice", "train.epochs": 1}), tmp_path / "run")
    label = "leaky: slices of one patient stand on several sides"
    assert metrics["split_by"] == label
    assert f"test ({label})" in capsys.readouterr().out
    held = json.loads((tmp_path / "run" / "split.json").read_text())["test"]
    assert metrics["slices"] == sum(map(len, held.values()))


def test_errors(workdir, tmp_path):
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        evaluate(tmp_path)
    with pytest.raises(InputError, match="--data needs --split=all"):
        evaluate(workdir, side="test", data=tmp_path)
    with pytest.raises(InputError, match="--split is 'dev'"):
        evaluate(workdir, side="dev")
    unscored = tmp_path / "unscored"
    shutil.copytree(workdir, unscored, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(InputError, match="no scored checkpoint"):
        evaluate(unscored)
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    split = splits.read(workdir / "split.json", cache.load(lgg, *_folders(workdir))[0])
    gone = json.loads((other / "split.json").read_text())
    patient = next(iter(split.train))
    del gone["train"][patient]
    (other / "split.json").write_text(json.dumps(gone))
    with pytest.raises(InputError, match=patient):
        evaluate(other)


def _folders(workdir):
    data = json.loads((workdir / "config.json").read_text())["data"]
    return Path(data["root"]), Path(data["cache"])

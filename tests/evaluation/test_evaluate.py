import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.data import cache, splits
from unet_jax.data.formats import lgg
from unet_jax.errors import InputError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.files import read_json, write_sealed_json
from unet_jax.inference.network import load_network
from unet_jax.run import history
from unet_jax.runtime.mesh import data_mesh
from unet_jax.training.train import train


@pytest.fixture(scope="module")
def config(settings, configure):
    return configure(settings | {"train.epochs": 8, "optim.learning_rate": 0.02})


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(config, folder)
    return folder


def by_hand(workdir, config, names):
    """Dice of each case, slice by slice from the network's probabilities, compared pixel by pixel."""
    cases, *_ = cache.load(lgg, Path(config.data.root), Path(config.data.cache))
    probability, _ = load_network(workdir, config, data_mesh())
    scores = {}
    for case in cases:
        if case.name in names:
            predicted = np.stack([np.asarray(probability(one[None]))[0] >= 0.5 for one in case.image])
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
    again = evaluate(workdir, side="all", data=elsewhere)
    assert again["dice_per_patient"] == metrics["dice_per_patient"]
    assert again["split_by"] == f"every case of {elsewhere}, training cases included"


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


def test_post_processing_is_applied_and_its_effect_reported(workdir, tmp_path):
    before = evaluate(workdir, side="all")
    assert before["postprocess"] == []
    changed = tmp_path / "changed"
    shutil.copytree(workdir, changed)
    config = read_json(changed / "config.json")
    config["eval"]["postprocess"] = {"minimum_voxels": 10**6, "largest_component": True}
    write_sealed_json(changed / "config.json", config)
    after = evaluate(changed, side="all")
    assert after["recall"] == 0
    assert [effect["step"] for effect in after["postprocess"]] == ["minimum_voxels", "largest_component"]
    assert after["postprocess"][0]["before"]["dice_per_patient"] == before["dice_per_patient"]
    assert after["postprocess"][1]["after"]["dice_per_patient"] == after["dice_per_patient"]
    assert after["hd95_per_patient"] == {
        "patients": 0,
        "mean": None,
        "median": None,
        "std": None,
        "ci95": None,
        "unit": "pixels",
    }


def test_the_newest_checkpoint_can_be_scored_instead_of_the_best(workdir, tmp_path):
    records = history.read(workdir)
    epochs = [record for record in records if "epoch" in record]
    best = max(epochs, key=lambda record: record["val_dice"])["step"]
    newest = tmp_path / "newest"
    shutil.copytree(workdir, newest)
    config = read_json(newest / "config.json")
    config["eval"]["checkpoint"] = "newest"
    write_sealed_json(newest / "config.json", config)
    for folder, name, step in ((workdir, "best", best), (newest, "newest", epochs[-1]["step"])):
        metrics = evaluate(folder)
        assert (metrics["checkpoint"], metrics["checkpoint_step"]) == (name, step)


def test_errors(workdir, tmp_path):
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        evaluate(tmp_path)
    with pytest.raises(InputError, match="--split is 'dev'"):
        evaluate(workdir, side="dev")
    unscored = tmp_path / "unscored"
    shutil.copytree(workdir, unscored, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(InputError, match="no scored checkpoint"):
        evaluate(unscored)
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    split = splits.read(workdir / "split.json", cache.load(lgg, *_folders(workdir))[0])
    gone = read_json(other / "split.json")
    patient = next(iter(split.train))
    del gone["train"][patient]
    write_sealed_json(other / "split.json", gone)
    with pytest.raises(InputError, match=patient):
        evaluate(other)


def test_a_swapped_split_is_not_scored(workdir, tmp_path):
    """A patient that was trained on, exchanged for one of the test side, by hand and with a seal that fits."""
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    split = read_json(other / "split.json")
    trained, tested = next(iter(split["train"])), next(iter(split["test"]))
    split["train"][tested], split["test"][trained] = split["test"].pop(tested), split["train"].pop(trained)
    (other / "split.json").write_text(json.dumps(split | {"sha256": "0" * 64}))
    with pytest.raises(InputError, match=r"split\.json is not what was written"):
        evaluate(other)
    write_sealed_json(other / "split.json", split)
    with pytest.raises(InputError, match=r"split\.json is not the split that checkpoint [0-9]+ was trained with"):
        evaluate(other)


def test_moved_data_are_given_and_scores_go_where_they_are_asked_for(workdir, tmp_path):
    root, _ = _folders(workdir)
    before = evaluate(workdir)
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    lost = tmp_path / "lost"
    shutil.copytree(workdir, lost, ignore=shutil.ignore_patterns("evaluation"))
    config = read_json(lost / "config.json")
    config["data"].update(root=str(tmp_path / "nowhere"), source="lgg")
    write_sealed_json(lost / "config.json", config)
    with pytest.raises(InputError, match="nowhere: the run's data are not there: say with --data=DIR"):
        evaluate(lost)
    found = evaluate(lost, data=moved, output=tmp_path / "scores")
    assert found["dice_per_patient"] == before["dice_per_patient"]
    assert (tmp_path / "scores" / "report.html").is_file()
    assert not (lost / "evaluation").exists()
    image = next(path for path in sorted(moved.rglob("*_1.tif")))
    image.write_bytes(image.with_name(image.name.replace("_1.tif", "_2.tif")).read_bytes())
    with pytest.raises(InputError, match=r"(?s)was trained on other data.*has another content"):
        evaluate(lost, data=moved)


def _folders(workdir):
    data = json.loads((workdir / "config.json").read_text())["data"]
    return Path(data["root"]), Path(data["cache"])


def test_cases_on_another_scale_than_training_are_named(workdir, config, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(config.data.root, elsewhere)
    evaluate(workdir, side="all", data=elsewhere)
    assert "another scale" not in capsys.readouterr().err
    darker = next(folder for folder in sorted(elsewhere.iterdir()) if folder.is_dir())
    for path in darker.glob("*.tif"):
        if not path.stem.endswith("_mask"):
            cv2.imwrite(str(path), cv2.imread(str(path)) // 6)
    evaluate(workdir, side="all", data=elsewhere)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "another scale" in line]
    assert line.startswith(f"warning: 1 of 8 cases are on another scale of intensities than training ({darker.name}: ")
    assert "where training had" in line

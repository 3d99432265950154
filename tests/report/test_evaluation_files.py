import csv
import json

import numpy as np
import pytest
import scored_cases
from disks import small_disk

from configs import default
from unet_jax.data.case import Case
from unet_jax.data.load import DataSet
from unet_jax.errors import StorageError
from unet_jax.metrics.cases import score_cases
from unet_jax.metrics.summary import summarise
from unet_jax.report import evaluation_files, packed_masks, page

FILES = {"metrics.json", "cases.csv", "cases.png", "report.html", "manifest.json"}
SIZE = 16


@pytest.fixture(scope="module")
def evaluated():
    """Three cases of which 8, 4 and none of 8 columns are found, as `evaluation_files.write` wants them."""
    cases, predicted = [], []
    for position, (name, columns) in enumerate({"good": 8, "half": 4, "missed": 0}.items()):
        truth, found = np.zeros((2, 3, SIZE, SIZE), np.uint8)
        truth[1, 4:8, 4:12] = 1
        found[1, 4:8, 4 : 4 + columns] = 1
        cases.append(Case(name, name, np.full((3, SIZE, SIZE, 2), 100, np.uint8), truth))
        predicted.append((position, np.arange(3, dtype=np.int32), found))
    masks = {}
    kept = packed_masks.keep(predicted, masks)
    scores = score_cases(cases, kept, tolerance=1.0, stages=scored_cases.stages())["as_predicted"]
    summary = {
        "split": "val",
        "split_by": "by patient",
        "checkpoint": "best",
        "checkpoint_step": 3,
        "damaged_checkpoints": [],
        "data_fingerprint": "abc",
        "threshold": 0.5,
        "tta": False,
        "tiles": False,
        "surface_tolerance": 1.0,
        **summarise(scores.rows, scores.counts),
        "postprocess": [],
        "seconds_per_case": 0.5,
    }
    return (
        default.get_config(),
        DataSet(cases, {}, "abc", {}, channel_names=("T1", "T2"), shown=1),
        masks,
        summary,
        scores.rows,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_evaluations_files_lie_in_the_folder_of_its_side(evaluated, tmp_path, capsys):
    evaluation_files.write(tmp_path / "evaluation" / "val", tmp_path, *evaluated)
    folder = tmp_path / "evaluation" / "val"
    assert set(contents(folder)) == FILES
    assert list(folder.parent.iterdir()) == [folder]
    *_, summary, rows = evaluated
    assert json.loads((folder / "metrics.json").read_text()) == summary
    with open(folder / "cases.csv", newline="") as file:
        found = {row["case"]: float(row["dice"]) for row in csv.DictReader(file)}
    assert found == pytest.approx({"missed": 0, "half": 2 / 3, "good": 1})
    text = (folder / "report.html").read_text()
    assert all(f">{row['case']}<" in text for row in rows)
    assert "T2" in text

    evaluation_files.show(folder, summary, ["checkpoint 5 is damaged"])
    said = capsys.readouterr().out
    assert "Dice per patient" in said
    assert said.splitlines()[-2:] == [
        "  checkpoint 5 is damaged",
        f"  written to {folder}: metrics.json, cases.csv, cases.png, report.html",
    ]


def test_they_appear_together_or_not_at_all(evaluated, tmp_path, monkeypatch):
    """The page, which is written last, has no room."""
    folder = tmp_path / "evaluation" / "val"

    def fail(path, **content):
        raise StorageError("no room for the page")

    with monkeypatch.context() as patch:
        patch.setattr(page, "write", fail)
        with pytest.raises(StorageError, match="no room for the page"):
            evaluation_files.write(tmp_path / "evaluation" / "val", tmp_path, *evaluated)
        assert not folder.exists()
    evaluation_files.write(tmp_path / "evaluation" / "val", tmp_path, *evaluated)
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    config, data, masks, summary, rows = evaluated
    with monkeypatch.context() as patch:
        patch.setattr(page, "write", fail)
        with pytest.raises(StorageError, match="no room for the page"):
            evaluation_files.write(
                tmp_path / "evaluation" / "val", tmp_path, config, data, masks, summary | {"checkpoint_step": 4}, rows
            )
    assert contents(folder) == before
    evaluation_files.write(
        tmp_path / "evaluation" / "val", tmp_path, config, data, masks, summary | {"checkpoint_step": 4}, rows
    )
    assert json.loads((folder / "metrics.json").read_text())["checkpoint_step"] == 4
    assert contents(folder).keys() == FILES | {"notes.txt"}
    assert list(folder.parent.iterdir()) == [folder]


def test_a_full_disk_leaves_the_evaluation_before(evaluated, tmp_path):
    with small_disk(tmp_path / "disk", "2m") as disk:
        evaluation_files.write(disk / "evaluation" / "val", disk, *evaluated)
        before = contents(disk / "evaluation" / "val")
        used = sum(map(len, before.values()))
        (disk / "filler").write_bytes(b"x" * (2 * 2**20 - used - used // 2 - 32 * 1024))
        with pytest.raises(StorageError, match=r"No space left on device; [\d,]+ bytes are needed"):
            evaluation_files.write(disk / "evaluation" / "val", disk, *evaluated)
        assert contents(disk / "evaluation" / "val") == before
        assert [path.name for path in (disk / "evaluation").iterdir()] == ["val"]


def test_slices_that_were_not_scored_are_not_shown():
    truth = np.ones((4, 2, 2), np.uint8)
    image = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    numbers = np.array([1, 3])
    found = evaluation_files.example("best", Case("a", "a", image, truth), numbers, 2 * truth[numbers], 1)
    assert found.title == "best"
    assert found.numbers == [1, 3]
    np.testing.assert_array_equal(found.truth, truth[numbers])
    np.testing.assert_array_equal(found.predicted, 2 * found.truth)
    np.testing.assert_array_equal(found.image, image[numbers, ..., 1])
    found = evaluation_files.example("best", Case("a", "a", image[..., :1], truth), numbers, truth[numbers], 0)
    np.testing.assert_array_equal(found.image, image[numbers, ..., 0])

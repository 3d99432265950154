import json

import pytest

from benchmarks import ablation
from unet_jax import metrics


def results(dice, recipe, folds=(0, 1)):
    return {
        "folds": 2,
        "folds_scored": list(folds),
        "patients": len(dice),
        "minutes_per_fold": 7.25,
        "dice_per_patient": metrics.distribution(list(dice.values())),
        "dice_by_patient": dice,
        "recipe": recipe,
    }


@pytest.fixture
def folder(tmp_path):
    kept = {
        "wide": results({"p": 0.9, "q": 0.7}, {"model.width": 32, "optim.schedule": "cosine"}),
        "baseline": results({"p": 0.8, "q": 0.4}, {"model.norm": "batch", "optim.schedule": "cosine"}),
        "half": results({"q": 0.3}, {"model.norm": "batch", "optim.schedule": "cosine"}, folds=[1]),
        "others": results({"r": 0.2}, {}),
        "wide+long": results({"p": 0.95, "q": 0.8}, {"model.width": 32, "train.epochs": 9, "loss.bce": None}),
        "more": results({"q": 0.35, "r": 0.15}, {}),
    }
    for name, one in kept.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(one))
    return tmp_path


def rows_of(text):
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line] for line in lines]


def test_the_baseline_stands_first_and_then_the_best(folder):
    first, _ = ablation.tables(ablation.read(folder)).split("\n\nCompared with `wide`:\n")
    assert first.startswith("Compared with `baseline`:\n")
    head, *rows = rows_of(first)
    assert all(len(row) == len(head) == 10 for row in rows)
    assert [row[0] for row in rows] == ["baseline", "wide", "half", "more", "others"]
    assert rows[0][1:] == ["", "7.2", "2 of 2", "2", "0.600 (0.400 to 0.800)", "0.600", "", "", ""]
    assert rows[1][1] == "`model.norm` as by default, `model.width=32`"
    assert rows[1][7:] == ["+0.200 (+0.100 to +0.300)", "2 of 2", "0.5"]
    assert rows[2][3] == "1 of 2"
    # Of the patients that both have.
    assert rows[2][7:] == ["-0.100 (-0.100 to -0.100)", "0 of 1", "1"]
    assert rows[3][7:] == ["-0.050 (-0.050 to -0.050)", "0 of 1", "1"]
    assert rows[4][7:] == ["other patients", "", ""]


def test_a_sum_is_compared_with_its_first_part(folder):
    _, second = ablation.tables(ablation.read(folder)).split("\n\nCompared with `wide`:\n")
    _, *rows = rows_of(second)
    assert [row[0] for row in rows] == ["wide", "wide+long"]
    assert rows[1][1] == "`loss.bce=None`, `optim.schedule` as by default, `train.epochs=9`"
    assert rows[1][7].startswith("+0.075 (")


def test_what_is_compared_with_has_to_be_there(folder):
    (folder / "wide.json").rename(folder / "moved.json")
    with pytest.raises(SystemExit, match=r"^wide.json, which other recipes are compared with, is not in docs/results"):
        ablation.tables(ablation.read(folder))


def test_the_table_stands_between_its_markers(folder):
    page = "before\n<!-- ablation -->\nearlier\n<!-- end of ablation -->\nafter\n"
    filled = ablation.fill(page, folder)
    assert "earlier" not in filled
    assert filled.startswith("before\n")
    assert filled.endswith("after\n")
    assert ablation.fill(filled, folder) == filled
    with pytest.raises(SystemExit, match="has 0 sections <!-- ablation -->"):
        ablation.fill("nothing", folder)


def test_the_page_is_what_the_results_say():
    page = ablation.PAGE.read_text()
    assert ablation.fill(page) == page, "run python -m benchmarks.ablation"

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
        "lost+long": results({"p": 0.1}, {}),
        "more": results({"q": 0.35, "r": 0.15}, {}),
    }
    for name, one in kept.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(one))
    return tmp_path


def test_the_baseline_stands_first_and_then_the_best(folder):
    head, _, *rows = [line.strip("| ").split(" | ") for line in ablation.table(ablation.read(folder)).splitlines()]
    assert len(head) == 8
    assert [row[0] for row in rows] == ["baseline", "wide+long", "wide", "half", "more", "others", "lost+long"]
    assert rows[0][2:7] == ["7.2", "2 of 2", "2", "0.600 (0.400 to 0.800)", "0.600"]
    assert rows[2][1] == "`model.norm` as by default, `model.width=32`"
    assert rows[2][-1].startswith(
        "2 patients: +0.200 mean Dice (95 % +0.100 to +0.300); 2 patients better, 0 worse, 0 equal"
    )
    assert rows[3][3] == "1 of 2"
    assert rows[3][-1].startswith("1 patients: -0.100 mean Dice")
    assert rows[4][-1].startswith("1 patients: -0.050 mean Dice")
    assert rows[5][-1] == "other patients"


def test_a_sum_is_compared_with_its_first_part(folder):
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in ablation.table(ablation.read(folder)).splitlines()}
    assert rows["| wide+long"][0] == "`loss.bce=None`, `optim.schedule` as by default, `train.epochs=9`"
    assert rows["| wide+long"][-1].startswith("2 patients: +0.075 mean Dice")
    # There is no "lost": nothing to compare with.
    assert (rows["| lost+long"][0], rows["| lost+long"][-1]) == ("", " |")


def test_the_table_stands_between_its_markers(folder):
    page = f"before\n{ablation.START}earlier\n{ablation.END}\nafter\n"
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

import numpy as np
import pytest
from nnunet_choice import CASES, answers, masks

from unet_jax.auto import choose, pool, table
from unet_jax.auto.pool import Pooled
from unet_jax.data.case import Case
from unet_jax.data.load import DataSet
from unet_jax.errors import InputError
from unet_jax.evaluation import choice

NAMES = {1: "shell", 2: "core"}


@pytest.fixture
def pooled(tmp_path):
    """nnU-Net's four cases: configuration "a" predicts as it did, "b" nothing but the background; c0, c1 are fold 0."""
    candidates = tuple(choice.candidates(["a", "b"]))
    cases, files = [], {}
    for position, (name, truth, predicted) in enumerate(zip(CASES, masks("ref"), masks("pred"), strict=True)):
        cases.append(Case(name, name, np.zeros((*truth.shape, 1), np.float32), truth))
        files[position] = tmp_path / f"{position}.npz"
        nothing = np.zeros_like(predicted)
        pool._write(files[position], [predicted, nothing, nothing], "origin")
    return Pooled(candidates, DataSet(cases, {}, "", {}, unit="case"), files, {0: 0, 1: 0, 2: 1, 3: 1})


@pytest.fixture
def chosen(pooled):
    scored = choose.score_all(pooled, (1, 2), None)
    return choose.choose(pooled, scored, NAMES, None, "origin")


def test_what_is_chosen_is_nnunets_own(chosen):
    best, found = chosen
    assert best.configurations == ("a",)
    assert best.folds == (0, 1)
    assert best.postprocessing == found.steps == ((1, 2),)
    candidates, after = best.results["candidates"], best.results["postprocessed"]
    assert [each["name"] for each in candidates] == ["a", "b", "a + b"]
    expected = answers()["summary"]
    assert candidates[0]["score"] == pytest.approx(expected["foreground_mean"]["Dice"])
    assert candidates[0]["classes"] == pytest.approx(
        {"shell": expected["mean"]["1"]["Dice"], "core": expected["mean"]["2"]["Dice"]}
    )
    assert candidates[1]["score"] == 0
    assert after["score"] == pytest.approx(answers()["postprocessed_summary"]["foreground_mean"]["Dice"])


def test_candidates_are_compared_with_the_chosen_one_patient_by_patient(chosen):
    first, second, _ = chosen[0].results["candidates"]
    assert first["against_chosen"] is None
    found = second["against_chosen"]
    assert (found["better"], found["worse"], found["equal"]) == (0, 4, 0)
    assert found["mean_difference"] == pytest.approx(-first["dice_per_patient"]["mean"])
    low, high = first["dice_per_patient"]["ci95"]
    assert low <= first["dice_per_patient"]["mean"] <= high
    assert chosen[0].results["postprocessed"]["against_chosen"]["better"] == 4


def test_the_table_shows_every_candidate(chosen):
    lines = table.table(chosen[0]).splitlines()
    assert [line.split("  ")[1] for line in lines[1:5]] == ["→ a", "b", "a + b", "the chosen, post-processed"]
    assert "0.878" in lines[1]
    assert "0 better, 4 worse" in lines[2]
    assert any("of shell and core only the largest component stays" in line for line in lines)
    page = table.page(chosen[0])
    assert page.count("\n|") == 6
    assert {line.count("|") for line in page.splitlines() if line.startswith("|")} == {7}


def test_masks_of_other_networks_and_damaged_ones_are_made_anew(pooled, capsys):
    path = pooled.files[0]
    assert pool._is_there(path, "origin", 3)
    assert not pool._is_there(path, "another", 3)
    assert not pool._is_there(path.with_name("no such"), "origin", 3)
    path.write_bytes(path.read_bytes()[:-30])
    assert not pool._is_there(path, "origin", 3)
    assert "cannot be read" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"0\.npz cannot be read"):
        pooled.masks(0)

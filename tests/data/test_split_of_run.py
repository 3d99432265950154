from pathlib import Path

import numpy as np
import pytest
from nnunet_choice import answers

from unet_jax.data import split_of_run
from unet_jax.data.case import Case
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

SETTINGS = {"split_by": "nnunet", "val_fraction": 0.1, "test_fraction": 0.15, "folds": 5, "split_seed": None}
SETTINGS |= {"split_file": None, "source": "nifti"}


def case(name, patient=None):
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, 0, : 1 + int(name[-1]) % 3] = 1
    return Case(name, patient or name, np.zeros((1, 4, 4, 1), np.uint8), mask, None)


def names_on(side):
    return sorted(name for names in side.values() for name in names)


def choose(path, cases, **changes):
    listing = [CaseFiles(one.name, one.patient, (Path(f"{one.name}.nii"),), ()) for one in cases]
    return split_of_run.choose(path, SETTINGS | changes, 0, cases, listing, "case")


@pytest.mark.parametrize("fold", range(5))
def test_nnunets_folds_are_scored_here(tmp_path, fold):
    cases = [case(f"case_{number:03d}") for number in range(20)]
    split, notes = choose(tmp_path / "split.json", cases, fold=fold)
    parts = answers()["splits"]["20"]
    assert names_on(split.test) == parts[fold]
    assert names_on(split.train | split.val) == sorted(
        name for number, part in enumerate(parts) for name in part if number != fold
    )
    assert len(split.val) == 2
    assert notes[0] == f"The split is nnU-Net's own fold {fold}."
    assert "2 of its training cases validate" in notes[-1]


def test_folds_by_patient_say_that_they_are_not_nnunets(tmp_path):
    cases = [case(f"case_{number:03d}") for number in range(20)]
    split, notes = choose(tmp_path / "split.json", cases, fold=0, split_by="patient")
    assert names_on(split.test) != answers()["splits"]["20"][0]
    assert notes == ["Fold 0 is drawn by case and is not nnU-Net's own, which config.data.split_by='nnunet' takes."]
    for silent in ({"folds": 4}, {"source": "pairs"}):
        assert choose(tmp_path / "split.json", cases, fold=0, split_by="patient", **silent)[1] == []


def test_what_nnunets_folds_cannot_do(tmp_path):
    cases = [case(f"case_{number:03d}") for number in range(20)]
    for changes in ({"folds": 0, "fold": 0}, {"folds": 3, "fold": 0}, {"fold": 5}):
        with pytest.raises(InputError, match="set folds to 5, and fold from 0 to 4"):
            choose(tmp_path / "split.json", cases, **changes)
    # Cases 3 and 8 are of fold 0, and case 0 is of fold 1.
    shared = [case(one.name, "p" if one.name in ("case_000", "case_003") else None) for one in cases]
    with pytest.raises(InputError, match="part the cases of these cases: p: make it 'patient'"):
        choose(tmp_path / "split.json", shared, fold=0)
    together = [case(one.name, "p" if one.name in ("case_008", "case_003") else None) for one in cases]
    assert choose(tmp_path / "split.json", together, fold=0)[0].test["p"] == ["case_003", "case_008"]
    given = tmp_path / "splits.csv"
    given.write_text("case,side\n")
    with pytest.raises(InputError, match="which draws nnU-Net's folds"):
        choose(tmp_path / "split.json", cases, fold=0, split_file=str(given))

import dataclasses
import json

import numpy as np
import pytest

from unet_jax.data import splits
from unet_jax.data.case import Case
from unet_jax.errors import InputError


def _cases(patients, scans=1, depth=4, seed=0):
    """Patient i has i of patients * 4 of its voxels in the tumour, in the last slices; the order is mixed."""
    cases = []
    for patient in np.random.default_rng(seed).permutation(patients).tolist():
        for scan in range(scans):
            mask = np.zeros((depth, 1, patients), np.uint8)
            mask.reshape(-1)[mask.size - patient :] = 1
            image = np.zeros((depth, 1, patients, 1), np.uint8)
            cases.append(Case(f"p{patient:03d}_{scan}", f"p{patient:03d}", image, mask))
    return cases


def _tumour_rank(patient):
    return int(patient[1:])


def _pairs(split, cases):
    return {side: set(map(tuple, splits.slices_of(split, cases, side).tolist())) for side in splits.SIDES}


@pytest.mark.parametrize(("patients", "expected"), [(110, (84, 11, 15)), (60, (45, 6, 9)), (3, (1, 1, 1))])
def test_sizes_are_those_of_the_tutorial(patients, expected):
    # Rounded up, as scikit-learn does: 110 → 11 and 14.85 → 15; 60 → 6 and 8.1 → 9.
    split = splits.make(_cases(patients))
    assert tuple(len(getattr(split, side)) for side in splits.SIDES) == expected


@pytest.mark.parametrize("split_by", ["patient", "slice"])
def test_sides_cover_everything_once(split_by):
    cases = _cases(20, scans=2)
    for seed in range(10):
        split = splits.make(cases, split_by=split_by, seed=seed, val_fraction=0.2, test_fraction=0.3)
        sides = _pairs(split, cases)
        assert sum(map(len, sides.values())) == 20 * 2 * 4
        assert set.union(*sides.values()) == {(case, number) for case in range(40) for number in range(4)}


def test_all_scans_of_a_patient_stay_together():
    cases = _cases(20, scans=3)
    split = splits.make(cases)
    assert split.label == "by patient"
    for side, pairs in _pairs(split, cases).items():
        patients = [cases[case].patient for case, _ in pairs]
        assert {patients.count(patient) for patient in patients} == {3 * 4}, side


def test_the_draw_is_a_function_of_the_seed():
    cases = _cases(30)
    assert splits.make(cases, seed=3) == splits.make(cases, seed=3)
    tests = {frozenset(splits.make(cases, seed=seed).test) for seed in range(20)}
    assert len(tests) > 15


def test_every_patient_is_about_as_likely_to_be_tested():
    cases = _cases(20)
    counts = dict.fromkeys([case.patient for case in cases], 0)
    for seed in range(400):
        for patient in splits.make(cases, seed=seed, val_fraction=0.25, test_fraction=0.2).test:
            counts[patient] += 1
    # 3 of 20 patients a draw, 400 draws: 60 expected each, standard deviation 7.1.
    assert sum(counts.values()) == 1200
    assert min(counts.values()) > 30
    assert max(counts.values()) < 90


@pytest.mark.parametrize("patients", [30, 47, 110])
def test_validation_has_its_share_of_tumours_below_any_size(patients):
    cases = _cases(patients)
    for seed in range(5):
        split = splits.make(cases, seed=seed)
        drawn = np.array([_tumour_rank(patient) for patient in split.val])
        for bound in range(patients):
            assert abs(np.sum(drawn < bound) - bound * len(drawn) / patients) < 1


def test_slices_are_stratified_by_their_own_diagnosis():
    cases = _cases(40, depth=5)
    tumour = {(i, s) for i, case in enumerate(cases) for s in range(5) if case.mask[s].any()}
    split = splits.make(cases, split_by="slice", seed=1)
    assert split.label == "leaky: slices of one patient stand on several sides"
    for pairs in _pairs(split, cases).values():
        assert abs(len(pairs & tumour) - len(pairs) * len(tumour) / 200) < 2
    sides = [{cases[case].patient for case, _ in pairs} for pairs in _pairs(split, cases).values()]
    assert sides[0] & sides[2]


@pytest.mark.parametrize(("patients", "folds"), [(4, 2), (5, 5), (23, 5), (60, 10)])
def test_folds_test_every_patient_exactly_once(patients, folds):
    cases = _cases(patients)
    drawn = [splits.make(cases, seed=7, fold=fold, folds=folds) for fold in range(folds)]
    tested = [patient for split in drawn for patient in split.test]
    assert sorted(tested) == sorted(case.patient for case in cases)
    assert max(len(s.test) for s in drawn) - min(len(s.test) for s in drawn) <= 1
    for split in drawn:
        assert len(split.train) + len(split.val) + len(split.test) == patients
        ranks = sorted(_tumour_rank(patient) for patient in split.test)
        assert all(rank // folds == position for position, rank in enumerate(ranks))


@pytest.mark.parametrize("split_by", ["patient", "slice"])
def test_a_split_survives_its_file(tmp_path, split_by):
    cases = _cases(12, scans=2)
    split = splits.make(cases, split_by=split_by, seed=5)
    splits.write(split, tmp_path / "split.json")
    splits.write(split, tmp_path / "split.json")
    assert splits.read(tmp_path / "split.json", cases) == split
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]
    content = json.loads((tmp_path / "split.json").read_text())
    assert content.keys() == {"split_by", "train", "val", "test", "sha256"}


def test_slices_of_a_side_are_in_order():
    cases = [
        Case(name, name[0], np.zeros((3, 1, 1, 1), np.uint8), np.zeros((3, 1, 1), np.uint8))
        for name in ("a0", "b0", "a1", "c0")
    ]
    split = splits.Split("patient", train={"a": ["a0", "a1"]}, val={"b": ["b0"]}, test={"c": ["c0"]})
    expected = [[0, 0], [0, 1], [0, 2], [2, 0], [2, 1], [2, 2]]
    assert splits.slices_of(split, cases, "train").tolist() == expected
    split = splits.Split("slice", train={"c0": [2], "a0": [2, 0]}, val={"b0": [1]}, test={"b0": [0]})
    assert splits.slices_of(split, cases, "train").tolist() == [[0, 0], [0, 2], [3, 2]]
    assert splits.slices_of(split, cases, "val").tolist() == [[1, 1]]


class _Counted(str):
    """A name that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        _Counted.compared += 1
        return str.__eq__(self, other)


def test_the_scans_of_one_patient_are_looked_up_and_not_searched(monkeypatch):
    monkeypatch.setattr(_Counted, "compared", 0)
    pixel = np.zeros((1, 1, 1, 1), np.uint8)
    cases = [Case(_Counted(f"scan {number}"), "a", pixel, pixel[..., 0]) for number in range(3000)]
    split = splits.Split("patient", train={"a": [str(case.name) for case in cases]}, val={"b": ["b"]}, test={"c": []})
    assert len(splits.slices_of(split, cases, "train")) == 3000
    assert _Counted.compared <= 3 * 3000


def test_a_patient_on_two_sides_is_named(tmp_path):
    with pytest.raises(InputError, match="train and test share p1, p2: put each patient on one side only"):
        splits.Split("patient", {"p1": ["a"], "p2": ["b"]}, {"p3": ["c"]}, {"p2": ["b"], "p1": ["a"]})
    with pytest.raises(InputError, match="val and test share a slice 4: put each slice on one side only"):
        splits.Split("slice", {"a": [1]}, {"a": [2, 4]}, {"a": [4, 5]})
    path = tmp_path / "split.json"
    path.write_text('{"split_by": "patient", "train": {"p": ["a"]}, "val": {"p": ["a"]}, "test": {}}')
    with pytest.raises(InputError) as caught:
        splits.read(path, [])
    assert [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()] == [
        "test: this side of the split is empty.",
        "train and val share p: put each patient on one side only.",
    ]


def test_a_split_of_other_data_is_refused_with_all_names(tmp_path):
    cases = _cases(6, scans=2)
    path = tmp_path / "split.json"
    splits.write(splits.make(cases), path)
    fewer = [case for case in cases if case.patient not in ("p001", "p002") and case.name != "p003_1"]
    other = dataclasses.replace(cases[0], name="q_0", patient="q")
    with pytest.raises(InputError) as caught:
        splits.read(path, [*fewer, other])
    text = str(caught.value)
    assert f"{path}: these patients of the split are not in the data: p001, p002." in text
    assert f"{path}: these patients of the data are not in the split: q." in text
    assert "other scans or slices than the data for these patients: p003." in text


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"split_by": "patient", "train": 3, "val": 1, "test": 2}'])
def test_a_file_that_is_no_split_is_named(tmp_path, text):
    path = tmp_path / "split.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"split\.json:? (is not a split|cannot be read|is not JSON)"):
        splits.read(path, [])


@pytest.mark.parametrize(
    ("patients", "arguments", "needed"),
    [
        (0, {}, 3),
        (2, {}, 3),
        (2, {"split_by": "slice"}, None),
        (3, {"folds": 2}, 4),
        (4, {"folds": 5}, 5),
        # 10 patients: 9 to val, 1 to test. 12: 11 and 1. 20: 18 and 1, one left.
        (10, {"val_fraction": 0.9, "test_fraction": 0.1}, 20),
    ],
)
def test_too_few_patients_are_told_how_many_are_needed(patients, arguments, needed):
    cases = _cases(patients)
    if needed is None:
        splits.make(cases, **arguments)
        return
    with pytest.raises(InputError, match=f"need at least {needed} patients, and the data hold {patients}:"):
        splits.make(cases, **arguments)
    splits.make(_cases(needed), **arguments)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"split_by": "hospital"}, "split_by"),
        ({"val_fraction": 0.0}, "val_fraction"),
        ({"test_fraction": 1.0}, "test_fraction"),
        ({"folds": 1}, "folds"),
        ({"folds": 5, "fold": 5}, "fold"),
        ({"folds": 5, "split_by": "slice"}, "folds"),
    ],
)
def test_arguments_out_of_range_name_their_key(arguments, key):
    with pytest.raises(InputError, match=rf"^config\.data\.{key}[=:]"):
        splits.make(_cases(10), **arguments)


def test_cases_without_masks_are_named():
    cases = [*_cases(5), Case("blank", "x", np.zeros((1, 1, 1, 1), np.uint8), None)]
    with pytest.raises(InputError, match="blank: these cases have no mask"):
        splits.make(cases)

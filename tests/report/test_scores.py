import csv
import json

import numpy as np
import pytest

from unet_jax.data.case import Case
from unet_jax.metrics import cases as scoring
from unet_jax.report import scores as report
from unet_jax.run.config import flatten


@pytest.fixture
def cases():
    """Two scans of patient p, one of patient q: 2, 1 and 2 slices of 2x5 pixels."""
    return [
        Case(name, patient, np.zeros((slices, 2, 5, 1), np.uint8), np.zeros((slices, 2, 5), np.uint8))
        for name, patient, slices in (("p_1", "p", 2), ("p_2", "p", 1), ("q_1", "q", 2))
    ]


INDEX = np.array([[0, 0], [0, 1], [1, 0], [2, 0], [2, 1]], np.int32)
# what evaluation adds to a summary
HEADER = {
    "split": "test",
    "split_by": "by patient",
    "seconds_per_case": 0.256,
    "surface_tolerance": 1.5,
    "postprocess": [],
}
# (true positive, false positive, false negative) of each slice
COUNTS = np.array([[4, 1, 1], [0, 0, 0], [0, 0, 2], [3, 0, 0], [0, 0, 0]], np.int64)


def test_a_case_is_scored_over_all_its_slices_and_the_worst_stands_first(cases):
    rows = report.case_rows(cases, INDEX, COUNTS)
    assert [(row["case"], row["patient"], row["slices"], row["dice"]) for row in rows] == [
        ("p_2", "p", 1, 0.0),
        ("p_1", "p", 2, 0.8),
        ("q_1", "q", 2, 1.0),
    ]
    assert rows[1] | {"iou": 4 / 6, "precision": 4 / 5, "recall": 4 / 5} == rows[1]
    assert rows[1] | {"true_positive": 4, "false_positive": 1, "false_negative": 1} == rows[1]
    assert rows[0]["precision"] is None
    assert rows[0]["recall"] == 0


def test_rows_do_not_depend_on_the_order_of_the_slices(cases):
    order = np.array([3, 0, 4, 2, 1])
    assert report.case_rows(cases, INDEX[order], COUNTS[order]) == report.case_rows(cases, INDEX, COUNTS)


def test_cases_without_a_scored_slice_have_no_row(cases):
    rows = report.case_rows(cases, INDEX[:1], COUNTS[:1])
    assert [(row["case"], row["slices"]) for row in rows] == [("p_1", 1)]


def test_the_scans_of_a_patient_are_pooled_as_one_volume(cases):
    summary = report.summarise(report.case_rows(cases, INDEX, COUNTS), COUNTS)
    assert (summary["cases"], summary["patients"], summary["slices"]) == (3, 2, 5)
    # p: 4, 1, 3 over both scans; q: 3, 0, 0. The mean over the three scans would be 0.6.
    assert summary["dice_per_patient"]["mean"] == pytest.approx((8 / 12 + 1) / 2)
    assert summary["iou_per_patient"]["mean"] == pytest.approx((4 / 8 + 1) / 2)
    assert summary["dice_global"] == pytest.approx(14 / 18)
    assert summary["precision"] == pytest.approx(7 / 8)
    assert summary["recall"] == pytest.approx(7 / 10)


def test_a_slice_that_is_empty_in_both_counts_as_one_and_is_reported(cases):
    summary = report.summarise(report.case_rows(cases, INDEX, COUNTS), COUNTS)
    assert summary["dice_per_slice"]["mean"] == pytest.approx((0.8 + 1 + 0 + 1 + 1) / 5)
    assert summary["slices_empty_in_both"] == 2
    assert summary["patients_empty_in_both"] == 0


def test_a_patient_that_is_empty_in_both_counts_as_one_and_is_reported(cases):
    nothing = np.zeros((5, 3), np.int64)
    summary = report.summarise(report.case_rows(cases, INDEX, nothing), nothing)
    assert summary["dice_per_patient"]["mean"] == summary["iou_per_patient"]["mean"] == 1
    assert summary["dice_global"] == 1
    assert summary["patients_empty_in_both"] == 2
    assert summary["precision"] is None
    assert summary["recall"] is None


def test_best_median_and_worst_are_different_cases():
    rows = [{"case": name, "dice": dice} for name, dice in zip("abcde", (0.1, 0.2, 0.3, 0.4, 0.5), strict=True)]
    named = [(title, row["case"]) for title, row in report.best_median_worst(rows)]
    assert named == [("best", "e"), ("median", "c"), ("worst", "a")]
    assert [title for title, _ in report.best_median_worst(rows[:2])] == ["best", "worst"]
    assert [title for title, _ in report.best_median_worst(rows[:1])] == ["best"]


def test_an_undefined_score_is_null_in_the_file_and_an_empty_cell_in_the_table_of_cases(cases, tmp_path):
    nothing = np.zeros((5, 3), np.int64)
    rows = report.case_rows(cases, INDEX, nothing)
    report.write(tmp_path, report.summarise(rows, nothing), rows)
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["recall"] is None
    with open(tmp_path / "cases.csv", newline="") as file:
        assert [line["recall"] for line in csv.DictReader(file)] == ["", "", ""]


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        report.write(tmp_path, {"dice_global": float("nan")}, [{"case": "a"}])
    assert not (tmp_path / "metrics.json").exists()


def test_the_file_of_cases_has_a_line_a_case_with_its_scores(cases, tmp_path):
    rows = report.case_rows(cases, INDEX, COUNTS)
    report.write(tmp_path, report.summarise(rows, COUNTS), rows)
    with open(tmp_path / "cases.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["case"] for line in lines] == ["p_2", "p_1", "q_1"]
    assert float(lines[1]["dice"]) == 0.8
    assert int(lines[1]["false_positive"]) == 1


def test_the_table_has_the_headline_scores_as_text(cases):
    summary = report.summarise(report.case_rows(cases, INDEX, COUNTS), COUNTS)
    lines = dict(line.strip().split("  ", 1) for line in report.table(HEADER | summary).splitlines())
    lines = {name: value.strip() for name, value in lines.items()}
    assert lines["split"] == "test (by patient)"
    assert lines["cases"] == "3 of 2 patients, 5 slices"
    assert lines["Dice per patient"] == "0.833 mean (95 % 0.667 to 1.000), 0.833 median, 0.236 std"
    assert lines["Dice per slice"] == "0.760 mean; 2 slices are empty in both and count as 1"
    assert lines["Dice of all pixels"] == "0.778"
    assert lines["precision, recall"] == "0.875, 0.700"
    assert lines["seconds per case"] == "0.26"


def test_the_table_names_what_is_undefined(cases):
    nothing = np.zeros((5, 3), np.int64)
    summary = report.summarise(report.case_rows(cases, INDEX, nothing), nothing)
    text = report.table(HEADER | summary)
    assert "undefined, undefined" in text
    assert "nan" not in text


@pytest.fixture
def whole_rows(cases):
    """Rows of the three scans as `scoring` makes them: of p two, of q one without a surface."""
    surfaces = {"p_1": (2.0, 1.0, 0.5), "p_2": (4.0, 2.0, 0.25), "q_1": (None, None, 0.0)}
    volumes = {"p_1": (0.5, 0.1), "p_2": (-1.5, None), "q_1": (3.0, 1.0)}
    found = {"p_1": (2, 1, 0), "p_2": (0, 3, 1), "q_1": (1, 0, 1)}
    rows = []
    for row in report.case_rows(cases, INDEX, COUNTS):
        values = (*surfaces[row["case"]], *volumes[row["case"]], *found[row["case"]])
        units = {"distance_unit": "mm", "volume_unit": "ml"}
        rows.append(row | dict(zip(scoring.WHOLE_CASE, values, strict=True)) | units)
    return rows


def test_a_patients_distance_is_the_mean_over_the_scans_where_it_is_defined(whole_rows):
    summary = report.summarise(whole_rows, COUNTS)
    assert summary["hd95_per_patient"] == {
        "patients": 1,
        "mean": 3.0,
        "median": 3.0,
        "std": 0.0,
        "ci95": [3.0, 3.0],
        "unit": "mm",
    }
    assert summary["average_surface_distance_per_patient"]["mean"] == 1.5
    assert summary["surface_dice_per_patient"]["mean"] == pytest.approx((0.375 + 0.0) / 2)
    assert summary["surface_dice_per_patient"]["patients"] == 2
    assert "unit" not in summary["surface_dice_per_patient"]
    assert summary["volume_difference_per_patient"]["mean"] == pytest.approx((-0.5 + 3.0) / 2)
    assert summary["volume_difference_per_patient"]["unit"] == "ml"
    assert summary["relative_volume_difference_per_patient"]["mean"] == pytest.approx((0.1 + 1.0) / 2)


def test_lesions_are_summed_over_all_cases(whole_rows):
    assert report.summarise(whole_rows, COUNTS)["lesions"] == {
        "true_positive": 3,
        "false_positive": 4,
        "false_negative": 2,
        "precision": 3 / 7,
        "recall": 3 / 5,
        "f1": 6 / 12,
    }


def test_specificity_is_of_all_pixels(cases):
    # 50 pixels, of which 10 are tumour, and 1 of the other 40 was predicted
    assert report.summarise(report.case_rows(cases, INDEX, COUNTS), COUNTS)["specificity"] == 39 / 40


def test_where_slices_are_missing_the_scores_of_whole_cases_are_null(whole_rows, tmp_path):
    rows = [row | dict.fromkeys(scoring.WHOLE_CASE) for row in whole_rows]
    report.write(tmp_path, report.summarise(rows, COUNTS), rows)
    text = (tmp_path / "metrics.json").read_text()
    summary = json.loads(text)
    assert "NaN" not in text
    assert summary["lesions"] is None
    nothing = {"patients": 0, "mean": None, "median": None, "std": None, "ci95": None, "unit": "mm"}
    assert summary["hd95_per_patient"] == nothing
    assert "undefined" in report.table(HEADER | summary)


def test_each_step_of_post_processing_stands_beside_the_one_before(whole_rows):
    names = ("as_predicted", "minimum_voxels", "largest_component")
    first = report.summarise(whole_rows, COUNTS)
    second, third = ({key: f"{key} {step}" for key in report.CHANGED} for step in (2, 3))
    effects = report.effects(dict(zip(names, (first, second, third), strict=True)))
    assert [effect["step"] for effect in effects] == ["minimum_voxels", "largest_component"]
    assert effects[0]["before"] == {key: first[key] for key in report.CHANGED}
    assert effects[0]["after"] == effects[1]["before"] == second
    assert effects[1]["after"] == third
    assert report.effects({"as_predicted": first}) == []


def test_the_table_shows_surfaces_lesions_and_what_post_processing_did(whole_rows):
    before = report.summarise(whole_rows, COUNTS)
    after = before | {"lesions": before["lesions"] | {"false_positive": 1}}
    effects = report.effects({"as_predicted": before, "minimum_voxels": after})
    text = report.table(HEADER | before | {"postprocess": effects})
    assert "HD95 per patient" in text
    assert "3.000 mm mean (95 % 3.000 to 3.000), 3.000 median, 0.000 std; undefined for 1 of 2" in text
    assert "surface Dice, 1.5 mm" in text
    assert "3 found, 2 missed, 4 false, F1 0.500" in text
    assert "Dice per patient 0.833 → 0.833, false lesions 4 → 1" in text


@pytest.mark.parametrize("spacing", [None, (5.0, 1.0, 1.0)])
def test_scores_of_random_masks_are_written_and_read_back(spacing, tmp_path):
    rng = np.random.default_rng(0)
    masks = (rng.random((2, 3, 4, 6, 6)) < 0.2).astype(np.uint8)
    # nothing predicted in the first case, no tumour in the second
    masks[0, 0] = masks[1, 1] = 0
    image = np.zeros((4, 6, 6, 1), np.uint8)
    cases = [Case(f"{number}", f"{number}", image, mask, spacing) for number, mask in enumerate(masks[1])]
    predicted = [(number, np.arange(4, dtype=np.int32), mask) for number, mask in enumerate(masks[0])]
    steps = {"minimum_voxels": 3, "largest_component": True}
    scored = scoring.score_cases(cases, predicted, tolerance=1.5, steps=steps)
    summaries = {stage: report.summarise(scores.rows, scores.counts) for stage, scores in scored.items()}
    last = scored["largest_component"]
    summary = HEADER | summaries["largest_component"] | {"postprocess": report.effects(summaries)}
    report.write(tmp_path, summary, last.rows)
    read = json.loads((tmp_path / "metrics.json").read_text())
    assert read == summary
    assert read["hd95_per_patient"]["patients"] == 1
    assert read["hd95_per_patient"]["unit"] == ("pixels" if spacing is None else "mm")
    assert read["volume_difference_per_patient"]["unit"] == ("voxels" if spacing is None else "ml")
    assert [effect["step"] for effect in read["postprocess"]] == list(steps)
    before, after = read["postprocess"][0]["before"], read["postprocess"][1]["after"]
    assert after["lesions"]["false_positive"] < before["lesions"]["false_positive"]
    with open(tmp_path / "cases.csv", newline="") as file:
        lines = {line["case"]: line for line in csv.DictReader(file)}
    assert (lines["0"]["hd95"], lines["1"]["recall"]) == ("", "")
    assert float(lines["2"]["hd95"]) == read["hd95_per_patient"]["mean"]


def test_several_classes_are_scored_one_by_one_and_their_mean_stands_over_them(tmp_path):
    """Each class has the scores that a data set of that class alone has."""
    rng = np.random.default_rng(0)
    predicted, truth = rng.integers(0, 3, (2, 4, 3, 6, 6), np.uint8)
    predicted[0], truth[0] = np.minimum(predicted[0], 1), np.minimum(truth[0], 1)  # without the second class
    names, steps = ("edema", "core"), {"minimum_voxels": 2, "largest_component": False}
    image = np.zeros((3, 6, 6, 1), np.uint8)

    def scored(predicted, truth, classes=()):
        cases = [Case(f"{n}", f"patient {n // 2}", image, mask, (5.0, 1.0, 1.0)) for n, mask in enumerate(truth)]
        whole = [(n, np.arange(3, dtype=np.int32), mask) for n, mask in enumerate(predicted)]
        found = scoring.score_cases(cases, whole, tolerance=1.0, steps=steps, classes=classes)["minimum_voxels"]
        return found, report.summarise(found.rows, found.counts)

    together, summary = scored(predicted, truth, names)
    alone = [scored(*((mask == number).astype(np.uint8) for mask in (predicted, truth))) for number in (1, 2)]
    each = dict(zip(names, (of for _, of in alone), strict=True))
    for name, of in each.items():
        found = summary["classes"][name]
        # Cases come in another order, by which patients are resampled.
        for of_class in (found, of):
            for key in [key for key in of_class if key.endswith("_per_patient")]:
                del of_class[key]["ci95"]
                assert of_class[key].pop("unit", None) == summary[key].get("unit")
        assert flatten(found) == pytest.approx(flatten(of), rel=1e-12)
    for key in ("dice_global", "precision", "recall", "specificity"):
        assert summary[key] == pytest.approx(np.mean([of[key] for of in each.values()]))
    for key in ("dice_per_patient", "iou_per_patient", "dice_per_slice"):
        assert summary[key]["mean"] == pytest.approx(np.mean([of[key]["mean"] for of in each.values()]))
    for key in report.COUNTS:
        assert summary["lesions"][key] == sum(of["lesions"][key] for of in each.values())
    assert summary["slices"] == 12
    empty = [not (predicted[n, m].any() or truth[n, m].any()) for n in range(4) for m in range(3)]
    assert summary["slices_empty_in_both"] == sum(empty)

    rows = {row["case"]: row for row in together.rows}
    for (found, _), name in zip(alone, names, strict=True):
        for row in found.rows:
            assert rows[row["case"]]["classes"][name] == row
    assert [row["dice"] for row in together.rows] == sorted(row["dice"] for row in together.rows)
    core = rows["0"]["classes"]["core"]
    assert (core["dice"], core["hd95"]) == (1, None)
    assert rows["0"]["hd95"] == rows["0"]["classes"]["edema"]["hd95"]

    report.write(tmp_path, HEADER | summary, together.rows)
    with open(tmp_path / "cases.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["case"], line["class"]) for line in lines] == [
        (row["case"], name) for row in together.rows for name in names
    ]
    assert [float(line["dice"]) for line in lines[:2]] == [of["dice"] for of in together.rows[0]["classes"].values()]

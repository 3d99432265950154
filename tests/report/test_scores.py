import csv
import json

import numpy as np
import pytest
import scored_cases
from scored_cases import COUNTS, NOTHING, SCORED_HOW

from unet_jax.data.case import Case
from unet_jax.metrics import cases as scoring
from unet_jax.metrics.summary import effects, summarise
from unet_jax.report import scores

# what evaluation adds to a summary
HEADER = SCORED_HOW | {"seconds_per_case": 0.256, "surface_tolerance": 1.5}


def test_an_undefined_score_is_null_in_the_file_and_an_empty_cell_in_the_table_of_cases(tmp_path):
    rows = scored_cases.rows(NOTHING)
    scores.write(tmp_path, summarise(rows, NOTHING), rows)
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["recall"] is None
    with open(tmp_path / "cases.csv", newline="") as file:
        assert [line["recall"] for line in csv.DictReader(file)] == ["", "", ""]


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        scores.write(tmp_path, {"dice_global": float("nan")}, [{"case": "a"}])
    assert not (tmp_path / "metrics.json").exists()


def test_the_file_of_cases_has_a_line_a_case_with_its_scores(tmp_path):
    rows = scored_cases.rows()
    scores.write(tmp_path, summarise(rows, COUNTS), rows)
    with open(tmp_path / "cases.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["case"] for line in lines] == ["p_2", "p_1", "q_1"]
    assert float(lines[1]["dice"]) == 0.8
    assert int(lines[1]["false_positive"]) == 1


def test_the_table_has_the_headline_scores_as_text():
    summary = summarise(scored_cases.rows(), COUNTS)
    lines = dict(line.strip().split("  ", 1) for line in scores.table(HEADER | summary).splitlines())
    lines = {name: value.strip() for name, value in lines.items()}
    assert lines["split"] == "test (by patient)"
    assert lines["cases"] == "3 of 2 patients, 5 slices"
    assert lines["Dice per patient"] == "0.833 mean (95 % 0.667 to 1.000), 0.833 median, 0.236 std"
    assert lines["Dice per slice"] == "0.760 mean; 2 slices empty in both, counted as 1 (the tutorial's convention)"
    assert lines["Dice of all pixels"] == "0.778"
    assert lines["precision, recall"] == "0.875, 0.700"
    assert lines["seconds per case"] == "0.26"


def test_the_table_names_what_is_undefined():
    summary = summarise(scored_cases.rows(NOTHING), NOTHING)
    text = scores.table(HEADER | summary)
    assert "undefined, undefined" in text
    assert "nan" not in text


def test_where_slices_are_missing_the_scores_of_whole_cases_are_null(tmp_path):
    rows = [row | dict.fromkeys(scoring.WHOLE_CASE) for row in scored_cases.whole_rows()]
    scores.write(tmp_path, summarise(rows, COUNTS), rows)
    text = (tmp_path / "metrics.json").read_text()
    summary = json.loads(text)
    assert "NaN" not in text
    assert summary["lesions"] is None
    nothing = {"patients": 0, "mean": None, "median": None, "std": None, "ci95": None, "unit": "mm"}
    assert summary["hd95_per_patient"] == nothing
    assert "undefined" in scores.table(HEADER | summary)


def test_the_table_shows_surfaces_lesions_and_what_post_processing_did():
    before = summarise(scored_cases.whole_rows(), COUNTS)
    after = before | {"lesions": before["lesions"] | {"false_positive": 1}}
    found = effects({"as_predicted": before, "minimum_voxels": after})
    text = scores.table(HEADER | before | {"postprocess": found})
    assert "HD95 per patient" in text
    assert "3.000 mm mean (95 % 3.000 to 3.000), 3.000 median, 0.000 std; undefined for 1 of 2" in text
    assert "surface Dice, 1.5 mm" in text
    assert "3 found, 2 missed, 4 false, F1 0.500" in text
    assert "Dice per patient 0.833 → 0.833, false lesions 4 → 1" in text


def test_lesions_that_are_found_by_covering_everything_say_so():
    rows = scored_cases.whole_rows()
    good, bad = (HEADER | summarise(rows, COUNTS) | {"postprocess": [], "precision": of} for of in (0.5, 0.02))
    assert "one voxel finds a lesion" not in scores.table(good)
    assert "F1 0.500; one voxel finds a lesion, and only 0.020 of the predicted pixels are right" in scores.table(bad)


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
    scored = scoring.score_cases(cases, predicted, tolerance=1.5, stages=scored_cases.stages(**steps))
    summaries = {stage: summarise(one.rows, one.counts) for stage, one in scored.items()}
    last = scored["largest_component"]
    summary = HEADER | summaries["largest_component"] | {"postprocess": effects(summaries)}
    scores.write(tmp_path, summary, last.rows)
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


def test_with_several_classes_a_case_has_a_line_for_each(tmp_path):
    names = ("edema", "core")
    found, summary = scored_cases.score(*scored_cases.random_classes(), names)
    scores.write(tmp_path, HEADER | summary, found.rows)
    with open(tmp_path / "cases.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["case"], line["class"]) for line in lines] == [
        (row["case"], name) for row in found.rows for name in names
    ]
    assert [float(line["dice"]) for line in lines[:2]] == [of["dice"] for of in found.rows[0]["classes"].values()]


def test_scores_are_by_picture_where_nobody_named_patients():
    summary = HEADER | summarise(scored_cases.rows(NOTHING), NOTHING) | {"unit": "picture"}
    text = scores.table(summary)
    assert "3 of 2 pictures, 5 slices" in text
    assert "Dice per picture" in text
    assert "2 of 2 pictures are empty in both and stand in no mean" in text
    assert "per patient" not in text

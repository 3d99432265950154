import numpy as np
import pytest
import scored_cases
from scored_cases import CASES, COUNTS, INDEX, NOTHING, score

from unet_jax.metrics.cases import PIXELS
from unet_jax.metrics.summary import CHANGED, best_median_worst, case_rows, effects, summarise
from unet_jax.run.config import flatten


def test_a_case_is_scored_over_all_its_slices_and_the_worst_stands_first():
    rows = scored_cases.rows()
    assert [(row["case"], row["patient"], row["slices"], row["dice"]) for row in rows] == [
        ("p_2", "p", 1, 0.0),
        ("p_1", "p", 2, 0.8),
        ("q_1", "q", 2, 1.0),
    ]
    assert rows[1] | {"iou": 4 / 6, "precision": 4 / 5, "recall": 4 / 5} == rows[1]
    assert rows[1] | {"true_positive": 4, "false_positive": 1, "false_negative": 1} == rows[1]
    assert rows[0]["precision"] is None
    assert rows[0]["recall"] == 0


def test_rows_do_not_depend_on_the_order_of_the_slices():
    order = np.array([3, 0, 4, 2, 1])
    assert case_rows(CASES, INDEX[order], COUNTS[order]) == scored_cases.rows()


def test_cases_without_a_scored_slice_have_no_row():
    rows = case_rows(CASES, INDEX[:1], COUNTS[:1])
    assert [(row["case"], row["slices"]) for row in rows] == [("p_1", 1)]


def test_the_scans_of_a_patient_are_pooled_as_one_volume():
    summary = summarise(scored_cases.rows(), COUNTS)
    assert (summary["cases"], summary["patients"], summary["slices"]) == (3, 2, 5)
    # p: 4, 1, 3 over both scans; q: 3, 0, 0. The mean over the three scans would be 0.6.
    assert summary["dice_per_patient"]["mean"] == pytest.approx((8 / 12 + 1) / 2)
    assert summary["iou_per_patient"]["mean"] == pytest.approx((4 / 8 + 1) / 2)
    assert summary["dice_global"] == pytest.approx(14 / 18)
    assert summary["precision"] == pytest.approx(7 / 8)
    assert summary["recall"] == pytest.approx(7 / 10)


def test_a_slice_that_is_empty_in_both_counts_as_one_and_is_reported():
    summary = summarise(scored_cases.rows(), COUNTS)
    assert summary["dice_per_slice"]["mean"] == pytest.approx((0.8 + 1 + 0 + 1 + 1) / 5)
    assert summary["slices_empty_in_both"] == 2
    assert summary["patients_empty_in_both"] == 0


def test_a_patient_that_is_empty_in_both_counts_as_one_and_is_reported():
    summary = summarise(scored_cases.rows(NOTHING), NOTHING)
    assert summary["dice_per_patient"]["mean"] == summary["iou_per_patient"]["mean"] == 1
    assert summary["dice_global"] == 1
    assert summary["patients_empty_in_both"] == 2
    assert summary["precision"] is None
    assert summary["recall"] is None


def test_specificity_is_of_all_pixels():
    # 50 pixels, of which 10 are tumour, and 1 of the other 40 was predicted
    assert summarise(scored_cases.rows(), COUNTS)["specificity"] == 39 / 40


def test_a_patients_distance_is_the_mean_over_the_scans_where_it_is_defined():
    summary = summarise(scored_cases.whole_rows(), COUNTS)
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


def test_lesions_are_summed_over_all_cases():
    assert summarise(scored_cases.whole_rows(), COUNTS)["lesions"] == {
        "true_positive": 3,
        "false_positive": 4,
        "false_negative": 2,
        "precision": 3 / 7,
        "recall": 3 / 5,
        "f1": 6 / 12,
    }


def test_several_classes_are_scored_one_by_one_and_their_mean_stands_over_them():
    """Each class has the scores that a data set of that class alone has."""
    predicted, truth = scored_cases.random_classes()
    names = ("edema", "core")
    together, summary = score(predicted, truth, names)
    alone = [score(*((mask == number).astype(np.uint8) for mask in (predicted, truth))) for number in (1, 2)]
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
    for key in PIXELS:
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


def test_each_step_of_post_processing_stands_beside_the_one_before():
    names = ("as_predicted", "minimum_voxels", "largest_component")
    first = summarise(scored_cases.whole_rows(), COUNTS)
    second, third = ({key: f"{key} {step}" for key in CHANGED} for step in (2, 3))
    found = effects(dict(zip(names, (first, second, third), strict=True)))
    assert [effect["step"] for effect in found] == ["minimum_voxels", "largest_component"]
    assert found[0]["before"] == {key: first[key] for key in CHANGED}
    assert found[0]["after"] == found[1]["before"] == second
    assert found[1]["after"] == third
    assert effects({"as_predicted": first}) == []


def test_best_median_and_worst_are_different_cases():
    rows = [{"case": name, "dice": dice} for name, dice in zip("abcde", (0.1, 0.2, 0.3, 0.4, 0.5), strict=True)]
    named = [(title, row["case"]) for title, row in best_median_worst(rows)]
    assert named == [("best", "e"), ("median", "c"), ("worst", "a")]
    assert [title for title, _ in best_median_worst(rows[:2])] == ["best", "worst"]
    assert [title for title, _ in best_median_worst(rows[:1])] == ["best"]

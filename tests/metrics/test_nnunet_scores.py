import json
import math

import numpy as np
import pytest
from nnunet_choice import answers, masks

from unet_jax.metrics import nnunet_scores
from unet_jax.metrics.overlap import dice


@pytest.mark.parametrize(("kind", "answer"), [("pred", "summary"), ("postprocessed", "postprocessed_summary")])
def test_the_summary_is_nnunets_own(kind, answer):
    expected = answers()[answer]
    scored = [nnunet_scores.score(*pair, keys=(1, 2)) for pair in zip(masks(kind), masks("ref"), strict=True)]
    names = [(case["reference_file"], case["prediction_file"]) for case in expected["metric_per_case"]]
    text = nnunet_scores.summary_file([(*name, scores) for name, scores in zip(names, scored, strict=True)])
    found = json.loads(text)
    assert json.dumps(found["metric_per_case"]) == json.dumps(expected["metric_per_case"])
    assert list(found) == list(expected)
    for key in ("foreground_mean", "mean"):
        np.testing.assert_equal(found[key].keys(), expected[key].keys())
    assert found["foreground_mean"] == pytest.approx(expected["foreground_mean"], rel=1e-12)
    for label in ("1", "2"):
        assert found["mean"][label] == pytest.approx(expected["mean"][label], rel=1e-12)


def test_a_class_of_no_case_leaves_the_mean_undefined():
    truth = np.array([[[1, 1, 0]]], np.uint8)
    by_key = nnunet_scores.means([nnunet_scores.score(truth, truth, (1, 2))])
    assert (by_key[1]["Dice"], by_key[2]["Dice"]) == (1, None)
    over_all = nnunet_scores.foreground_mean(by_key)
    assert over_all["Dice"] is None
    assert over_all["TP"] == 1
    written = json.loads(nnunet_scores.summary_file([("ref", "pred", nnunet_scores.score(truth, truth, (1, 2)))]))
    assert math.isnan(written["foreground_mean"]["Dice"])


def test_one_empty_side_is_0_and_ignored_voxels_do_not_count():
    truth = np.array([[[0, 0, 1, 1, 3, 3]]], np.uint8)
    predicted = np.array([[[2, 0, 1, 0, 1, 0]]], np.uint8)
    found = nnunet_scores.score(predicted, truth, (1, 2), ignored=3)
    assert found[1] == {"Dice": 2 / 3, "IoU": 1 / 2, "TP": 1, "FP": 0, "FN": 1, "TN": 2, "n_pred": 1, "n_ref": 2}
    assert (found[2]["Dice"], found[2]["IoU"], found[2]["FP"]) == (0, 0, 1)
    counted = nnunet_scores.score(predicted, truth, (1,))
    assert counted[1]["FP"] == 1


def test_a_region_is_all_its_labels():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(4, size=(2, 3, 4, 5), dtype=np.uint8)
    found = nnunet_scores.score(predicted, truth, ((1, 2, 3), (2,), 3))
    both = [mask > 0 for mask in (predicted, truth)]
    true_positive = int((both[0] & both[1]).sum())
    expected = np.array([true_positive, both[0].sum() - true_positive, both[1].sum() - true_positive])
    assert found[(1, 2, 3)]["Dice"] == dice(expected)
    assert found[(2,)] == nnunet_scores.score(predicted, truth, (2,))[2]
    text = nnunet_scores.summary_file([("a", "b", found)])
    assert set(json.loads(text)["mean"]) == {"(1, 2, 3)", "(2,)", "3"}

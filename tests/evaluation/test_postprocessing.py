import numpy as np
import pytest
from nnunet_choice import answers, masks

from unet_jax.evaluation.postprocessing import determine
from unet_jax.metrics import nnunet_scores


def line(*labels):
    return np.array(labels, np.uint8).reshape(1, 1, -1)


def test_what_nnunet_determined():
    expected = answers()["postprocessing"]
    found = determine(list(zip(masks("pred"), masks("ref"), strict=True)), (1, 2))
    assert [list(step) for step in found.steps] == [
        kwargs["labels_or_regions"] for kwargs in expected["postprocessing_kwargs"]
    ]
    for scored, name in ((found.before, "input_folder"), (found.after, "postprocessed")):
        by_key = nnunet_scores.means(scored)
        assert nnunet_scores.foreground_mean(by_key) == pytest.approx(expected[name]["foreground_mean"], rel=1e-12)
        for key in (1, 2):
            assert by_key[key] == pytest.approx(expected[name]["mean"][str(key)], rel=1e-12)


def test_all_foreground_is_refused_where_one_label_falls():
    # Label 2 lies apart: with all foreground as one it would be lost, by itself it only loses what is wrong.
    truth = line(1, 1, 1, 1, 0, 0, 2, 2, 0, 0, 0)
    predicted = line(1, 1, 1, 1, 0, 0, 2, 2, 0, 2, 0)
    assert determine([(predicted, truth)], (1, 2)).steps == ((2,),)


def test_a_label_is_tried_on_top_of_what_is_accepted():
    # All foreground loses the far end; within what is left, label 1 has two parts that label 2 holds together.
    truth = line(1, 1, 2, 2, 0, 0, 0, 0)
    predicted = line(1, 1, 2, 2, 1, 0, 0, 1)
    found = determine([(predicted, truth)], (1, 2))
    assert found.steps == ((1, 2), (1,))
    assert nnunet_scores.foreground_mean(nnunet_scores.means(found.after))["Dice"] == 1


def test_nothing_is_accepted_that_changes_nothing_or_is_undefined():
    truth = line(1, 0, 1, 1)
    assert determine([(truth, truth)], (1,)).steps == ()
    # Label 2 is in no case: the mean over labels is undefined, and label 1 helps by itself.
    predicted = line(1, 0, 0, 1, 1, 1)
    assert determine([(predicted, line(0, 0, 0, 1, 1, 1))], (1, 2)).steps == ((1,),)


def test_cases_differ_in_size():
    pairs = [(line(1, 0, 1, 1), line(0, 0, 1, 1)), (line(0, 1, 1), line(0, 1, 1))]
    assert determine(pairs, (1,)).steps == ((1,),)


def test_one_label_is_tried_once():
    truth, predicted = line(0, 0, 1, 1), line(1, 0, 1, 1)
    assert determine([(predicted, truth)], (1,)).steps == ((1,),)


def test_ignored_voxels_decide_nothing():
    # What would be removed lies where nobody labelled.
    truth, predicted = line(2, 0, 1, 1), line(1, 0, 1, 1)
    assert determine([(predicted, truth)], (1,), ignored=2).steps == ()

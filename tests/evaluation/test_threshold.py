import numpy as np
import pytest

from unet_jax.data.case import Case
from unet_jax.evaluation import threshold
from unet_jax.inference.windows import Segmented, Wanted

OFF = {"minimum_voxels": 0, "largest_component": False}


def found(patient, probability, truth):
    """A case of one slice with a row of pixels."""
    truth = np.array([[truth]], np.uint8)
    case = Case(patient, patient, np.zeros((1, 1, truth.shape[-1], 1), np.uint8), truth)
    probability = np.array([[probability]], np.float32)
    wanted = Wanted(0, case, np.arange(1))
    return Segmented(wanted, (probability >= 0.5).astype(np.uint8), probability)


def test_mean_dice_of_patients_by_hand():
    """Patient a is found whole from .25 down, without false pixels from .15 up; patient b at .6 alone."""
    cases = [found("a", [0.26, 0.9, 0.12, 0.01], [1, 1, 0, 0]), found("b", [0.61, 0.58, 0.0, 0.0], [1, 0, 0, 0])]
    scores = threshold.mean_dice(cases, OFF)
    assert list(scores) == list(threshold.CANDIDATES)
    assert scores[0.1] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores[0.25] == pytest.approx((1 + 2 / 3) / 2)
    assert scores[0.3] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert scores[0.6] == pytest.approx((2 / 3 + 1) / 2)
    assert scores[0.95] == pytest.approx(0)
    assert threshold.best(scores) == 0.6  # as good as .15, .2 and .25, and nearer to the middle


def test_scans_of_a_patient_count_as_one():
    cases = [found("a", [0.9, 0.0], [1, 0]), found("a", [0.9, 0.9, 0.9], [1, 0, 0])]
    assert threshold.mean_dice(cases, OFF)[0.5] == pytest.approx(4 / 6)


def test_masks_are_post_processed_before_they_are_scored():
    cases = [found("a", [0.9, 0.9, 0.0, 0.7], [1, 1, 0, 0])]
    assert threshold.mean_dice(cases, OFF)[0.5] == pytest.approx(4 / 5)
    assert threshold.mean_dice(cases, OFF | {"largest_component": True})[0.5] == 1


def test_the_half_stands_where_nothing_is_better():
    assert threshold.best(dict.fromkeys(threshold.CANDIDATES, 0.7)) == 0.5

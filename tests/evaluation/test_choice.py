import numpy as np
import pytest

from unet_jax.evaluation import choice
from unet_jax.evaluation.choice import Candidate
from unet_jax.metrics import nnunet_scores


def scored(predicted, truth, keys=(1, 2)):
    return nnunet_scores.score(*(np.array(mask, np.uint8).reshape(1, 1, -1) for mask in (predicted, truth)), keys)


def test_single_configurations_stand_before_pairs():
    assert [each.name for each in choice.candidates(["2d", "3d_fullres", "3d_lowres"])] == [
        "2d",
        "3d_fullres",
        "3d_lowres",
        "2d + 3d_fullres",
        "2d + 3d_lowres",
        "3d_fullres + 3d_lowres",
    ]


def test_the_first_of_equals_is_chosen_and_undefined_comes_last():
    a, b, both = choice.candidates(["a", "b"])
    assert choice.best({a: 0.5, b: 0.7, both: 0.7}) == b
    assert choice.best({a: 0.5, b: 0.7, both: 0.71}) == both
    assert choice.best({a: None, b: 0.0, both: None}) == b
    assert choice.best({a: None, b: None, both: None}) == Candidate(("a",))


def test_the_score_pools_cases_label_by_label():
    # Label 2 is in the second case alone: the mean over labels is that of the two labels' own means.
    cases = [scored([1, 1, 0, 0], [1, 0, 0, 0]), scored([1, 2, 2, 0], [1, 2, 0, 0])]
    assert choice.score(cases) == pytest.approx(((2 / 3 + 1) / 2 + 2 / 3) / 2)
    assert choice.score(cases[:1]) is None


def test_a_patients_cases_are_one():
    cases = [scored([1, 1], [1, 0]), scored([1, 2], [1, 2]), scored([0, 0], [0, 0])]
    found = choice.dice_by_patient(cases, ["p", "p", "q"])
    assert found == {"p": pytest.approx((4 / 5 + 1) / 2), "q": None}

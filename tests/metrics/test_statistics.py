import numpy as np
import pytest

from unet_jax import metrics
from unet_jax.metrics import statistics
from unet_jax.metrics.statistics import paired_comparison


def test_a_mean_is_over_what_is_defined():
    assert metrics.mean_of_defined([0.5, None, 1.0]) == 0.75
    assert metrics.mean_of_defined([None, None]) is None


def test_distribution_of_known_values():
    found = metrics.distribution([0.0, 0.5, 1.0, 0.9])
    assert found["mean"] == pytest.approx(0.6)
    assert found["median"] == pytest.approx(0.7)
    # deviations -.6, -.1, .4, .3: squares sum to .62, over n - 1
    assert found["std"] == pytest.approx((0.62 / 3) ** 0.5)


def test_a_single_value_has_no_spread():
    assert metrics.distribution([0.7]) == {"mean": 0.7, "median": 0.7, "std": 0.0, "ci95": [0.7, 0.7]}


def test_the_interval_of_two_values_is_known():
    # of two draws out of {0, 1}, a quarter are both 0 and a quarter both 1: far over 2.5 % each
    assert metrics.bootstrap_interval(np.array([0.0, 1.0])) == [0.0, 1.0]


def test_the_interval_follows_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(0.8, 0.1, 400)
    half_width = 1.96 * values.std() / 20
    expected = [values.mean() - half_width, values.mean() + half_width]
    np.testing.assert_allclose(metrics.bootstrap_interval(values), expected, atol=0.03 * half_width)


def test_the_interval_holds_the_mean_and_moves_with_the_values():
    rng = np.random.default_rng(2)
    for size in (2, 3, 11, 40):
        values = rng.random(size)
        low, high = metrics.bootstrap_interval(values)
        assert values.min() <= low <= values.mean() <= high <= values.max()
        np.testing.assert_allclose(metrics.bootstrap_interval(3 * values + 2), [3 * low + 2, 3 * high + 2])


@pytest.mark.parametrize("drawn", [1, 100, 1999, 2**21])
def test_the_interval_is_the_same_however_many_are_drawn_at_once(drawn, monkeypatch):
    values = np.random.default_rng(4).random(37)
    everything = np.random.default_rng(0).integers(37, size=(200, 37))
    expected = np.percentile(values[everything].mean(axis=1), [2.5, 97.5]).tolist()
    monkeypatch.setattr(statistics, "DRAWN", drawn)
    assert statistics.bootstrap_interval(values, resamples=200) == expected


def test_the_interval_is_the_same_on_every_call():
    values = np.random.default_rng(3).random(20)
    assert metrics.bootstrap_interval(values) == metrics.bootstrap_interval(values)


def test_a_distribution_of_nothing_is_undefined():
    assert metrics.distribution([]) == {"mean": None, "median": None, "std": None, "ci95": None}


def test_a_paired_comparison_is_of_those_defined_in_both():
    ours = {"a": 0.5, "b": 0.25, "c": 0.5, "d": None}
    theirs = {"a": 0.25, "b": 0.5, "c": 0.5, "d": 0.9}
    found = paired_comparison(ours, theirs)
    assert (found["patients"], found["better"], found["worse"], found["equal"]) == (3, 1, 1, 1)
    assert found["mean_difference"] == 0
    assert found["ci95"] == pytest.approx([-found["ci95"][1], found["ci95"][1]], abs=0.01)
    # Of the two that differ, the ranks are tied.
    assert found["p_value"] == 1
    same = paired_comparison(ours, ours)
    assert (same["equal"], same["p_value"], same["mean_difference"]) == (3, None, 0)
    nobody = paired_comparison({"d": None}, theirs)
    assert (nobody["patients"], nobody["mean_difference"], nobody["ci95"], nobody["p_value"]) == (0, None, None, None)

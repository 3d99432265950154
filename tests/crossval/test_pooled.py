import numpy as np
import pytest

from unet_jax.crossval import pooled
from unet_jax.errors import InputError


def test_a_comparison_by_hand():
    """Differences .1, .2, .3 and -.4: ranks 1, 2, 3 and -4, so that W is 4 of 10; of 16 signs 14 are as extreme."""
    ours = {"a": 0.5, "b": 0.7, "c": 0.9, "d": 0.2, "e": 0.5}
    theirs = {"e": 0.5, "a": 0.4, "b": 0.5, "c": 0.6, "d": 0.6}
    found = pooled.compare(ours, theirs)
    assert (found["patients"], found["better"], found["worse"], found["equal"]) == (5, 3, 1, 1)
    assert found["mean_difference"] == pytest.approx(0.04)
    low, high = found["ci95"]
    assert -0.4 < low < 0.04 < high < 0.3
    back = pooled.compare(theirs, ours)
    assert back["mean_difference"] == pytest.approx(-0.04)
    assert (back["better"], back["worse"], back["p_value"]) == (1, 3, found["p_value"])


def test_the_p_value_counts_the_signs_that_are_as_extreme():
    """Six patients, all better, no two by the same: 2 of the 64 ways to choose signs are as extreme."""
    ours = {name: 0.3 + 0.05 * place**1.5 for place, name in enumerate("abcdef", 1)}
    found = pooled.compare(ours, dict.fromkeys("abcdef", 0.3))
    assert found["p_value"] == pytest.approx(2 / 64)


def test_equal_recipes_have_no_p_value():
    found = pooled.compare({"a": 0.5, "b": 0.7}, {"a": 0.5, "b": 0.7})
    assert (found["equal"], found["mean_difference"], found["p_value"]) == (2, 0.0, None)


def test_other_patients_are_named_in_one_line():
    theirs = dict.fromkeys("abcdefgh", 0.5)
    with pytest.raises(InputError, match=r"1 here, 8 there, and only in one of them b, c, d, e, f and 2 more") as error:
        pooled.compare({"a": 0.5}, theirs)
    assert "\n" not in str(error.value)


def test_a_comparison_in_words():
    found = pooled.compare(dict(zip("abcdef", np.arange(6) / 10, strict=True)), dict.fromkeys("abcdef", 0.0))
    assert pooled.difference(found).startswith("+0.250 mean Dice (95 % +")
    assert "5 patients better, 0 worse, 1 equal; Wilcoxon p = 0.062" in pooled.difference(found)

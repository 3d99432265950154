import math

import pytest

from unet_jax.training.pace import Pace


def test_what_is_left_is_steps_and_validations_by_what_they_took():
    """The first step is compiled for a minute, which does not count; then steps of 2, 2 and 4 seconds."""
    now = [60.0]
    pace = Pace(lambda: now[0])
    assert (pace.until_stopped(2), pace.left(10, 1)) == (math.inf, None)
    pace.begin()
    for seconds in (2, 2, 4):
        now[0] += seconds
        pace.step()
    assert pace.left(9, 2) == pytest.approx(9 * 8 / 3)
    assert pace.until_stopped(2) == 8
    now[0] += 100
    pace.validated(100.0)
    pace.saved(1.5)
    assert pace.left(9, 2) == pytest.approx(9 * 8 / 3 + 200)
    assert pace.until_stopped(1) == 5.5


def test_the_last_step_of_an_epoch_counts_though_no_other_follows():
    """Two are under way at a time: an epoch's first turn takes no time, and its last step is waited for."""
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.begin()
    for seconds in (3, 0, 3):
        now[0] += seconds
        pace.step()
    now[0] += 6
    pace.end()
    assert pace.longest_step == 6
    assert pace.left(1, 0) == 12 / 3

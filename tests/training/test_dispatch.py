import itertools

import jax
import numpy as np
import pytest

from unet_jax.training import dispatch
from unet_jax.training.pace import Pace


def _pace(seconds, steps):
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.begin()
    for _ in range(steps):
        now[0] += seconds
        pace.step()
    return pace


def test_no_program_runs_past_the_end_of_an_epoch_or_a_checkpoint():
    """An epoch of 7 steps, a checkpoint every 5, three steps a program, 16 steps in all."""
    found = list(dispatch.counts(0, 16, (7, 5), lambda: 3))
    #        to 5       to 7  to 10 to 14   to 15 to 16
    assert found == [3, 1, 1, 1, 1, 3, 3, 1, 1, 1]
    assert list(dispatch.counts(3, 9, (0, 0), lambda: 4)) == [4, 1, 1]


def test_programs_end_at_every_boundary_and_a_run_that_resumes_has_the_rest_of_them():
    rng = np.random.default_rng(0)
    for _ in range(50):
        total, epoch, every, steps = (int(rng.integers(low, 40)) for low in (1, 1, 0, 1))
        whole = list(dispatch.counts(0, total, (epoch, every), lambda: steps))  # noqa: B023
        ends = list(itertools.accumulate(whole))
        assert ends[-1] == total
        assert set(range(epoch, total, epoch)) <= set(ends)
        assert not every or set(range(every, total, every)) <= set(ends)
        assert set(whole) <= {1, steps}
        resumed = int(rng.integers(len(whole)))
        rest = dispatch.counts(ends[resumed], total, (epoch, every), lambda: steps)  # noqa: B023
        assert list(rest) == whole[resumed + 1 :]


@pytest.mark.parametrize(
    ("seconds", "timed", "backend", "expected"),
    [(0.002, 20, "gpu", 8), (0.002, 19, "gpu", 1), (0.004, 20, "gpu", 1), (0.002, 20, "cpu", 1)],
)
def test_short_steps_on_an_accelerator_are_done_together(monkeypatch, seconds, timed, backend, expected):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    pace = _pace(seconds, timed)
    assert dispatch.chosen(None, pace) == expected
    assert dispatch.chosen(3, pace) == 3

import itertools

import optax
import pytest

from unet_jax.benchmark import training_steps
from unet_jax.training.step import init_state


def test_a_machine_that_slows_down_changes_no_ratio(monkeypatch):
    """Steps with new batches take 1.25 times as long as others; all take twice as long after each pair of turns."""
    turns = itertools.count()

    def run(training, batches, seconds):
        assert seconds == pytest.approx(1 / training_steps.TURNS)
        return [2.0 ** (next(turns) // 2) * (1.25 if next(batches)["new"] else 1.0)] * 3

    monkeypatch.setattr(training_steps.Training, "run", run)
    training = training_steps.Training(lambda: None, init_state({}, {}, optax.identity()))
    still, moving, ratio = training_steps.alternate(training, {"new": False}, itertools.repeat({"new": True}), 1.0)
    assert ratio == pytest.approx(0.8)
    assert len(still) == len(moving) == 3 * training_steps.TURNS
    assert sum(moving) == pytest.approx(1.25 * sum(still))


def test_steps_are_taken_in_order_and_each_waits_for_the_one_before():
    seen = []

    def step(state, batch):
        seen.append((int(state.step), batch))
        return state.replace(step=state.step + 1), {"loss": state.step}

    training = training_steps.Training(step, init_state({}, {}, optax.identity()))
    assert len(training.run(({"number": n} for n in range(100)), count=4)) == 4
    assert seen == [(n, {"number": n}) for n in range(6)]
    assert training.state.step == 6

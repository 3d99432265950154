import itertools
import types

import optax
import pytest

from unet_jax.benchmark import training_steps
from unet_jax.benchmark.training_steps import Way
from unet_jax.training.step import init_state


def test_a_machine_that_slows_down_changes_no_ratio(monkeypatch):
    """Steps with new batches take 1.25 times as long as others; all take twice as long after each round."""
    turns = itertools.count()

    def run(training, way, seconds):
        assert seconds == pytest.approx(1 / training_steps.TURNS)
        return [2.0 ** (next(turns) // 3) * next(way.batches)] * 3

    monkeypatch.setattr(training_steps.Training, "run", run)
    training = training_steps.Training(init_state({}, {}, optax.identity()))
    ways = {name: Way(lambda: None, itertools.repeat(t)) for name, t in (("still", 1.0), ("new", 1.25), ("fast", 0.5))}
    samples, ratios = training_steps.alternate(training, ways, 1.0)
    assert ratios == pytest.approx({"still": 1.0, "new": 0.8, "fast": 2.0})
    assert {len(of_way) for of_way in samples.values()} == {3 * training_steps.TURNS}
    assert sum(samples["new"]) == pytest.approx(1.25 * sum(samples["still"]))


@pytest.mark.parametrize("steps_a_program", [1, 4])
def test_steps_are_taken_in_order_and_each_waits_for_the_one_before(monkeypatch, steps_a_program):
    """The clock moves by 8 seconds a program."""
    seen, now = [], itertools.count(step=8.0)
    monkeypatch.setattr(training_steps, "time", types.SimpleNamespace(perf_counter=lambda: next(now)))

    def step(state, batch):
        seen.append((int(state.step), batch))
        return state.replace(step=state.step + 1), {"loss": state.step}

    training = training_steps.Training(init_state({}, {}, optax.identity()))
    way = Way(step, ({"number": n} for n in range(100)), steps_a_program)
    assert training.run(way, count=4) == [8 / steps_a_program] * 4
    assert seen == [(n, {"number": n}) for n in range(6)]
    assert training.state.step == 6

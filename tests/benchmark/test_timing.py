import itertools

import pytest

from unet_jax.benchmark import timing


def test_the_first_call_does_not_count(monkeypatch):
    clock = itertools.count(0.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    calls = []
    samples = timing.sample(lambda: calls.append(0), seconds=0.0)
    assert samples == [1.0, 1.0, 1.0]
    assert len(calls) == 4


def test_samples_go_on_until_the_time_is_over(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def call():
        now[0] += 0.5

    assert timing.sample(call, seconds=4.0) == [0.5] * 8


def test_median_and_95th_percentile():
    assert timing.milliseconds([0.001 * n for n in range(101)]) == {
        "p50_ms": pytest.approx(50),
        "p95_ms": pytest.approx(95),
        "samples": 101,
    }

import pytest

from unet_jax.benchmark import side_by_side


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(side_by_side.time, "sleep", lambda seconds: None)
    return now


def test_contenders_take_turns_and_short_work_is_repeated(clock):
    order = []

    def work(name, seconds):
        def call(times):
            order.append((name, times))
            clock[0] += seconds * times

        return call

    samples = side_by_side.alternate({"a": work("a", 0.02), "b": work("b", 1.0)}, seconds=0.0)
    assert samples == {"a": pytest.approx([0.02] * 7), "b": pytest.approx([1.0] * 7)}
    assert order[4:] == [("a", 5), ("b", 1)] * 7


def test_rounds_go_on_until_the_time_is_over(clock):
    def call(times):
        clock[0] += times

    assert len(side_by_side.alternate({"a": call, "b": call}, seconds=40.0)["a"]) == 20


def test_a_ratio_above_one_is_faster():
    assert side_by_side.compare([1.0, 2.0, 1.0, 2.0, 1.0], [2.0, 2.0, 4.0, 4.0, 3.0]) == {
        "ratio": 3.0,
        "lower": 2.0,
        "upper": 3.0,
    }

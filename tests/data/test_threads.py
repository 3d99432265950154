import threading
import time

import pytest

from unet_jax.data import threads
from unet_jax.data.threads import in_threads


def test_results_come_in_the_order_of_the_items():
    delays = [0.03, 0.0, 0.02, 0.01] * 3
    assert list(in_threads(lambda number: (time.sleep(delays[number]), number)[1], range(12), "x")) == list(range(12))
    assert list(in_threads(str, [], "x")) == []


def test_no_more_is_begun_than_there_are_threads(monkeypatch):
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 3)
    begun = []
    results = in_threads(lambda number: begun.append(number) or number, range(20), "x")
    for taken in range(20):
        assert next(results) == taken
        assert len(begun) <= taken + 3


def test_what_is_raised_is_raised_here_and_ends_the_rest(monkeypatch):
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 2)
    begun = []

    def fail(number):
        begun.append(number)
        raise ValueError(number)

    before = threading.active_count()
    with pytest.raises(ValueError, match="0"):
        list(in_threads(fail, range(100), "x"))
    assert len(begun) <= 2
    assert threading.active_count() == before


def test_heavy_items_are_under_way_one_by_one(monkeypatch):
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(threads, "MOST_WEIGHT", 10)
    begun = []
    weights = [4, 5, 2, 30, 1, 1, 1, 11]
    results = in_threads(
        lambda item: begun.append(item) or item, list(enumerate(weights)), "x", weight=lambda item: item[1]
    )
    taken, most = 0, 0
    for taken, _ in enumerate(results):
        under_way = weights[taken : max(number for number, _ in begun) + 1]
        most = max(most, sum(under_way))
        assert sum(under_way) <= 10 or len(under_way) == 1
    assert (taken, most) == (7, 30)

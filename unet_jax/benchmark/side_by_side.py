"""Contenders timed in turns, so that whatever else the machine does slows all of them alike."""

import time
from collections.abc import Callable, Mapping

import numpy as np

FEWEST_ROUNDS = 7
# A sample takes so long that starting and ending it does not count.
SAMPLE_SECONDS = 0.1
# Between samples: threads of one contender that still spin would slow the next.
PAUSE_SECONDS = 0.02


def alternate(calls: Mapping[str, Callable[[int], None]], seconds: float) -> dict[str, list[float]]:
    """The seconds a repetition of each contender's work: a sample of each in a round, and as many rounds as fit.

    Args:
        calls: contender → a function that does its work the given number of times, and returns when all is done.
        seconds: of all rounds together; there are at least seven.
    """
    repeats = {}
    for name, call in calls.items():
        call(1)
        once = _seconds(call, 1)
        repeats[name] = max(1, round(SAMPLE_SECONDS / once))
    samples = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while len(next(iter(samples.values()))) < FEWEST_ROUNDS or time.perf_counter() < end:
        for name, call in calls.items():
            time.sleep(PAUSE_SECONDS)
            samples[name].append(_seconds(call, repeats[name]) / repeats[name])
    return samples


def _seconds(call: Callable[[int], None], repeats: int) -> float:
    began = time.perf_counter()
    call(repeats)
    return time.perf_counter() - began


def compare(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """How many times as fast as theirs ours is: the ratio of the medians, and its quartiles over the rounds."""
    low, high = np.percentile(np.divide(theirs, ours), (25, 75))
    return {"ratio": float(np.median(theirs) / np.median(ours)), "lower": float(low), "upper": float(high)}

"""How long calls take: after a warm-up, until their arrays are computed, and often enough for a median."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

FEWEST = 3


def sample(call: Callable[[], Any], seconds: float) -> list[float]:
    """The seconds of each call, after one that does not count, until `seconds` are over; at least three calls.

    A call ends when all arrays that it returns are computed.
    """
    jax.block_until_ready(call())
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < FEWEST or time.perf_counter() < end:
        samples.append(once(call))
    return samples


def once(call: Callable[[], Any]) -> float:
    """The seconds of one call."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def milliseconds(samples: list[float]) -> dict[str, float]:
    """Median and 95th percentile of the samples, given in seconds, and how many there are."""
    p50, p95 = np.percentile(samples, (50, 95)) * 1000
    return {"p50_ms": float(p50), "p95_ms": float(p95), "samples": len(samples)}

"""How long training steps take, as a run takes them: with a batch that stays on the device, and with new ones."""

import dataclasses
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from unet_jax.benchmark.timing import FEWEST
from unet_jax.training.step import TrainState

# Steps with a resident batch and with new ones take turns, so that whatever else the machine does slows both; each pair
# of turns is compared by itself, as a machine's speed drifts.
TURNS = 9


@dataclasses.dataclass
class Training:
    """Steps as a run takes them: one is computed while the next is prepared.

    Attributes:
        step: (state, batch) → (state, what is logged).
        state: before the next step.
    """

    step: Callable
    state: TrainState

    def run(self, batches: Iterator[dict], *, seconds: float = 0.0, count: int = FEWEST) -> list[float]:
        """Takes steps for `seconds`, and at least `count`; returns the seconds from each step's end to the next."""
        self.state, previous = self.step(self.state, next(batches))
        jax.block_until_ready(previous)
        ends = [time.perf_counter()]
        self.state, previous = self.step(self.state, next(batches))
        while len(ends) <= count or ends[-1] - ends[0] < seconds:
            self.state, logged = self.step(self.state, next(batches))
            jax.block_until_ready(previous)
            previous = logged
            ends.append(time.perf_counter())
        jax.block_until_ready(previous)
        return np.diff(ends).tolist()


def alternate(
    training: Training, resident: dict, fed: Iterator[dict], seconds: float
) -> tuple[list[float], list[float], float]:
    """Times steps with both kinds of batches in turns.

    Args:
        training: takes the steps.
        resident: a batch on the device.
        fed: new batches.
        seconds: for each kind.

    Returns:
        The seconds of the steps with the resident batch, of those with new ones, and the speed of the second by that of
        the first.
    """
    still, moving, ratios = [], [], []
    for turn in range(TURNS):
        found = {}
        for fresh in (False, True) if turn % 2 else (True, False):
            found[fresh] = training.run(fed if fresh else iter(lambda: resident, None), seconds=seconds / TURNS)
        still += found[False]
        moving += found[True]
        ratios.append(np.median(found[False]) / np.median(found[True]))
    return still, moving, float(np.median(ratios))

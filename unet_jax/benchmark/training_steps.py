"""How long training steps take, as a run takes them: with a batch that stays on the device, and with new ones."""

import dataclasses
import time
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from unet_jax.benchmark.timing import FEWEST
from unet_jax.training.step import Step, TrainState

# Steps with a resident batch and with new ones take turns, so that whatever else the machine does slows all; each round
# is compared by itself, as a machine's speed drifts.
TURNS = 9


@dataclasses.dataclass(frozen=True)
class Way:
    """How steps get their batches.

    Attributes:
        program: of one step, or of several.
        batches: what it is given, on the devices, without end.
        steps: of the program.
    """

    program: Step
    batches: Iterator[dict]
    steps: int = 1


@dataclasses.dataclass
class Training:
    """Steps as a run takes them: a program is computed while the next is prepared.

    Attributes:
        state: before the next step.
    """

    state: TrainState

    def run(self, way: Way, *, seconds: float = 0.0, count: int = FEWEST) -> list[float]:
        """Takes steps for `seconds`, and at least `count` programs.

        Returns:
            The seconds from each program's end to the next, a step.
        """
        previous = self._next(way)
        jax.block_until_ready(previous)
        ends = [time.perf_counter()]
        previous = self._next(way)
        while len(ends) <= count or ends[-1] - ends[0] < seconds:
            logged = self._next(way)
            jax.block_until_ready(previous)
            previous = logged
            ends.append(time.perf_counter())
        jax.block_until_ready(previous)
        return (np.diff(ends) / way.steps).tolist()

    def _next(self, way: Way) -> dict:
        self.state, logged = way.program(self.state, next(way.batches))
        return logged


def alternate(
    training: Training, ways: Mapping[str, Way], seconds: float
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Times steps with batches that come in several ways, in turns.

    Args:
        training: takes the steps.
        ways: by their names; the first is what the others are compared with.
        seconds: for each.

    Returns:
        The seconds of the steps of each way, and its speed by that of the first.
    """
    names = list(ways)
    samples, ratios = {name: [] for name in names}, {name: [] for name in names}
    for turn in range(TURNS):
        found = {}
        for name in names if turn % 2 else reversed(names):
            found[name] = training.run(ways[name], seconds=seconds / TURNS)
        for name in names:
            samples[name] += found[name]
            ratios[name].append(np.median(found[names[0]]) / np.median(found[name]))
    return samples, {name: float(np.median(of_turns)) for name, of_turns in ratios.items()}

"""How long steps, validation and saving take in this process, and what is left of a run by that."""

import math
import time
from collections.abc import Callable


class Pace:
    """Measured by the clock between steps.

    What the first step takes to be compiled does not count.

    Args:
        clock: seconds.

    Attributes:
        longest_step: seconds, of a program of one or several; infinite before the first has ended.
        validation: seconds of the last one, checkpoint and pictures included; 0 before the first.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._before = math.nan
        self._steps, self._seconds = 0, 0.0
        self._longest_save = 0.0
        self.longest_step = math.inf
        self.validation = 0.0

    def begin(self) -> None:
        """A program is compiled, and begins."""
        self._before = self._clock()

    def step(self, count: int = 1) -> None:
        """The run turns to the next steps, `count` as one program.

        A program has ended since it turned to the last, but for an epoch's first.
        """
        self._steps += count
        self.end()

    def end(self) -> None:
        """The last step that is under way has ended."""
        now = self._clock()
        seconds, self._before = now - self._before, now
        self.longest_step = seconds if math.isinf(self.longest_step) else max(self.longest_step, seconds)
        self._seconds += seconds

    def validated(self, seconds: float) -> None:
        """So long, the steps have waited."""
        self.validation = seconds
        self._before = self._clock()

    def saved(self, seconds: float) -> None:
        """So long, a checkpoint took."""
        self._longest_save = max(self._longest_save, seconds)

    def until_stopped(self, steps: int) -> float:
        """Seconds until so many programs have ended and are saved, at most; infinite before the first has ended."""
        return steps * self.longest_step + self._longest_save

    def seconds_a_step(self, fewest: int) -> float | None:
        """The mean; None before so many have ended."""
        return self._seconds / self._steps if self._steps >= fewest else None

    def left(self, steps: int, epochs: int) -> float | None:
        """Seconds that so many steps take, and so many validations; None before the first has ended."""
        if not self._steps:
            return None
        return steps * self._seconds / self._steps + epochs * self.validation

"""Where a run stands while it trains: a bar on a terminal, and without one a line every two minutes."""

import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from tqdm import tqdm

from unet_jax.run.history import best_epoch
from unet_jax.runtime.mesh import is_primary
from unet_jax.training.pace import Pace
from unet_jax.wording import duration

# Seconds between two lines without a terminal, and between two looks of the bar on one.
LINE_EVERY, REFRESH_EVERY = 120.0, 1.0
FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix}"


class ProgressBar:
    """Shows the whole run: epoch, step, time left, loss, and the validation Dice so far.

    A thread shows it, so that something moves while a step takes minutes.

    Args:
        done: steps that are done.
        total: steps of the run, at most: it may end early.
        steps_per_epoch: of a whole epoch; the last one may be shorter.
        epochs: the records of the epochs before.
        pace: of the run.
    """

    def __init__(self, done: int, total: int, steps_per_epoch: int, epochs: Sequence[dict], pace: Pace):
        self._step, self._total, self._steps_per_epoch = done, total, steps_per_epoch
        self._pace, self._doing = pace, ""
        self._facts: dict[str, str] = {}
        self._dice = _dice(epochs)
        self._over = threading.Event()
        self._bar = tqdm(
            initial=done,
            total=total,
            bar_format=FORMAT,
            dynamic_ncols=True,
            disable=None if is_primary() else True,
            leave=False,
        )

    def __enter__(self) -> "ProgressBar":
        if is_primary():
            threading.Thread(target=self._show, daemon=True, name="progress").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._bar.close()

    def doing(self, what: str) -> None:
        """What happens in the place of steps, such as compiling; "" for steps."""
        self._doing = what
        self._refresh()

    def step(self, number: int) -> None:
        """Step `number` has begun."""
        self._step, self._doing = number, ""
        self._bar.set_description_str(self._epoch(), refresh=False)
        self._bar.set_postfix_str(self._rest(), refresh=False)
        self._bar.update(number - self._bar.n)

    def logged(self, record: Mapping[str, Any]) -> None:
        """A step's record of the history."""
        loss = record["loss"]
        self._facts = {"loss": "none" if loss is None else f"{loss:.3f}"} | {
            key: str(record[key]) for key in ("spikes", "skipped") if record[key]
        }

    def validated(self, epochs: Sequence[dict], line: str) -> None:
        """An epoch is over, and has a line of its own."""
        self._dice = _dice(epochs)
        if is_primary():
            tqdm.write(line)
            sys.stdout.flush()

    def line(self) -> str:
        """Where the run stands, in a sentence."""
        doing = f", {self._doing}" if self._doing else ""
        return f"{self._epoch()}, step {self._step:,} of {self._total:,}{doing}{self._rest(separator=', ')}"

    def _show(self) -> None:
        period = LINE_EVERY if self._bar.disable else REFRESH_EVERY
        while not self._over.wait(period):
            if self._bar.disable:
                print(self.line(), flush=True)
            else:
                self._refresh()

    def _refresh(self) -> None:
        self._bar.set_description_str(self._doing or self._epoch(), refresh=False)
        self._bar.set_postfix_str(self._rest(), refresh=True)

    def _epoch(self) -> str:
        number, of = (-(-step // self._steps_per_epoch) for step in (max(self._step, 1), self._total))
        return f"epoch {number} of {of}"

    def _rest(self, separator: str = "") -> str:
        """Time left, loss and Dice, after `separator`, as tqdm puts one itself."""
        steps = self._total - self._step
        left = self._pace.left(steps, -(-self._total // self._steps_per_epoch) - self._step // self._steps_per_epoch)
        facts = [] if left is None else [f"{duration(left)} left"]
        facts += [f"{key} {value}" for key, value in self._facts.items()]
        facts += [self._dice] if self._dice else []
        return separator + ", ".join(facts) if facts else ""


def _dice(epochs: Sequence[dict]) -> str:
    """The validation Dice so far; "" before it is known."""
    if not epochs or (best := best_epoch(epochs))["val_dice"] is None:
        return ""
    last = epochs[-1]["val_dice"]
    said = "undefined" if last is None else f"{last:.3f}"
    return f"validation Dice {said} (best {best['val_dice']:.3f} in epoch {best['epoch']})"

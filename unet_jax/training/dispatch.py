"""How many steps one program runs: a small network's step ends before the host has started the next."""

from collections.abc import Callable, Iterator, Sequence

import jax
from ml_collections import ConfigDict

from unet_jax.errors import InputError
from unet_jax.runtime import exchange
from unet_jax.training.pace import Pace

# What None chooses for steps that take less than this many seconds, and how many of them have to be timed first.
SEVERAL, SHORT, TIMED = 8, 3e-3, 20


def check(config: ConfigDict) -> None:
    """Raises InputError unless config.train.steps_per_dispatch can be kept."""
    asked = config.train.steps_per_dispatch
    if asked is not None and asked < 1:
        raise InputError(
            f"config.train.steps_per_dispatch is {asked}; it must be at least 1, or None to choose by a step's time."
        )


def chosen(asked: int | None, pace: Pace) -> int:
    """Steps of a program.

    Args:
        asked: config.train.steps_per_dispatch. None: several on an accelerator, once steps have turned out to be short.
            Processes of one run would have to agree on that, and take one.
        pace: of the run so far.
    """
    if asked is not None:
        return asked
    seconds = pace.seconds_a_step(TIMED)
    is_short = seconds is not None and seconds < SHORT
    return SEVERAL if is_short and jax.default_backend() != "cpu" and exchange.count() == 1 else 1


def counts(done: int, total: int, periods: Sequence[int], steps: Callable[[], int]) -> Iterator[int]:
    """Steps of each program, one after the other, from `done` steps to `total`.

    None runs past a multiple of a period, where a run validates or saves: what is left before it is done one by one, so
    that there are two programs to compile and no more. A run that resumes after any of them has the rest of them.

    Args:
        done: steps before.
        total: of the run.
        periods: steps of an epoch and between checkpoints; 0 for none.
        steps: how many are wanted; asked each time.
    """
    while done < total:
        end = min([total, *((done // period + 1) * period for period in periods if period)])
        wanted = steps()
        count = wanted if end - done >= wanted else 1
        yield count
        done += count

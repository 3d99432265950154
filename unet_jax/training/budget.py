"""How many steps a run trains, at most: by its epochs, its steps, or its minutes."""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.errors import InputError
from unet_jax.files import read_json, write_sealed_json
from unet_jax.run.folder import CONFIG
from unet_jax.runtime.mesh import is_primary
from unet_jax.training.trial import Trial

NAME = "budget.json"


def total_steps(config: ConfigDict, workdir: Path, steps_per_epoch: int, measure: Callable[[], Trial]) -> int:
    """The steps of the whole run, at most; those of a budget of minutes are fixed once, in the run's folder.

    Args:
        config: the run's.
        workdir: its folder.
        steps_per_epoch: how many.
        measure: times steps and validation; called for a new run with a budget of minutes alone.

    Raises:
        InputError: a run with a budget of minutes has begun, and its record is missing or damaged.
    """
    fixed = fixed_steps(config, workdir)
    if config.train.minutes is not None and fixed is None:
        trial = measure()
        fixed = trial.steps_within(60 * config.train.minutes, steps_per_epoch)
        if is_primary():
            record = {"minutes": config.train.minutes, "steps": fixed}
            measured = {"seconds_per_step": trial.step, "seconds_per_validation": trial.validation}
            write_sealed_json(workdir / NAME, record | measured)
    return _least(config.train.epochs * steps_per_epoch, config.train.steps, fixed)


def expected_steps(config: ConfigDict, workdir: Path, steps_per_epoch: int, trial: Trial) -> int:
    """`total_steps` by a trial that there was; nothing is fixed."""
    fixed = fixed_steps(config, workdir)
    if config.train.minutes is not None and fixed is None:
        fixed = trial.steps_within(60 * config.train.minutes, steps_per_epoch)
    return _least(config.train.epochs * steps_per_epoch, config.train.steps, fixed)


def most_steps(config: ConfigDict, workdir: Path) -> int | None:
    """What limits the steps of a run that has begun, besides its epochs; None for nothing."""
    limits = [config.train.steps, fixed_steps(config, workdir)]
    return _least(*limits) if any(limit is not None for limit in limits) else None


def fixed_steps(config: ConfigDict, workdir: Path) -> int | None:
    """The steps that were fixed for the run's budget of minutes; None if there is no such budget, or no run yet."""
    if config.train.minutes is None:
        return None
    path = workdir / NAME
    has_begun = (workdir / CONFIG).exists()
    if not path.exists() and not has_begun:
        return None
    found = read_json(path)
    steps, minutes = (found.get("steps"), found.get("minutes")) if isinstance(found, dict) else (None, None)
    if not isinstance(steps, int) or steps < 1 or (has_begun and minutes != config.train.minutes):
        raise InputError(f"{path} is not the budget of {config.train.minutes:g} minutes: restore it.")
    return steps if minutes == config.train.minutes else None


def _least(*limits: int | None) -> int:
    return min(limit for limit in limits if limit is not None)

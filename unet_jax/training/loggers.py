"""Where a run's numbers also go, besides its history and TensorBoard: MLflow or Weights & Biases.

A logger is a function of a step and its numbers by name; without a server, both keep them in the run's folder.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_jax.errors import InputError
from unet_jax.run.config import flatten

NAMES = ("mlflow", "wandb")
MLFLOW_FOLDER = "mlruns"

# (step, numbers by name)
Logger = Callable[[int, Mapping[str, int | float]], None]


def check(names: Sequence[str]) -> None:
    """Raises InputError for a logger that is not known."""
    for name in names:
        if name not in NAMES:
            raise InputError(f"config.train.loggers names {name!r}; there are {', '.join(NAMES)}.")


def scalars(record: Mapping[str, Any]) -> dict[str, int | float]:
    """What of a record of the history can be drawn over the steps, by names such as "train/loss"."""
    group = "epoch" if "epoch" in record else "train"
    flat = flatten(record)
    numbers = {key: value for key, value in flat.items() if key != "step" and type(value) in (int, float)}
    return {key if key == "epoch" else f"{group}/{key.replace('.', '/')}": value for key, value in numbers.items()}


@contextlib.contextmanager
def opened(names: Sequence[str], workdir: Path, config: Mapping[str, Any]) -> Iterator[list[Logger]]:
    """The loggers of a run, which are closed at the end of the block.

    One that fails is left out from then on, with a warning: a server that is away ends no training.

    Args:
        names: some of `NAMES`.
        workdir: the run's folder; its name is the run's.
        config: the run's, which is logged once.

    Raises:
        InputError: its package is not installed.
    """
    with contextlib.ExitStack() as stack:
        loggers = []
        for name in names:
            match name:
                case "mlflow":
                    loggers.append(_never_failing(name, stack.enter_context(_mlflow(workdir, config))))
                case "wandb":
                    loggers.append(_never_failing(name, stack.enter_context(_wandb(workdir, config))))
        yield loggers


def _never_failing(name: str, log: Logger) -> Logger:
    """The logger, until it fails for the first time."""
    has_failed = False

    def logged(step: int, numbers: Mapping[str, int | float]) -> None:
        nonlocal has_failed
        if has_failed:
            return
        try:
            log(step, numbers)
        except Exception as error:  # of whatever kind the package has
            has_failed = True
            print(f"warning: {name} gets nothing from here on: {_line(error)}", file=sys.stderr, flush=True)

    return logged


def _line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0]


@contextlib.contextmanager
def _mlflow(workdir: Path, config: Mapping[str, Any]) -> Iterator[Logger]:
    """A run of MLflow, which a resumed run continues; without MLFLOW_TRACKING_URI it lies in the run's folder."""
    try:
        # Newer versions ask for it where there is no server.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient
    except ImportError:
        raise _missing("mlflow") from None
    folder = (workdir / MLFLOW_FOLDER).absolute()
    server = os.environ.get("MLFLOW_TRACKING_URI")
    client = MlflowClient(server or folder.as_uri())
    experiment = client.get_experiment_by_name("unet_jax")
    number = client.create_experiment("unet_jax") if experiment is None else experiment.experiment_id
    tag = str(workdir.absolute())
    found = client.search_runs([number], f"tags.workdir = '{tag}'", max_results=1)
    if found:
        run = found[0].info.run_id
    else:
        run = client.create_run(number, tags={"workdir": tag}, run_name=workdir.name).info.run_id
        for key, value in flatten(config).items():
            client.log_param(run, key, str(value)[:500])

    def log(step: int, numbers: Mapping[str, int | float]) -> None:
        for name, value in numbers.items():
            # In its folders, "epoch" cannot be a number and the place of "epoch/val_dice" as well.
            client.log_metric(run, "epoch/number" if name == "epoch" else name, value, step=step)

    try:
        yield log
    finally:
        with contextlib.suppress(Exception):
            client.set_terminated(run)


@contextlib.contextmanager
def _wandb(workdir: Path, config: Mapping[str, Any]) -> Iterator[Logger]:
    """A run of Weights & Biases; without WANDB_MODE it is offline, in the run's folder, for `wandb sync`."""
    try:
        import wandb
    except ImportError:
        raise _missing("wandb") from None
    mode = os.environ.get("WANDB_MODE", "offline")
    run = wandb.init(project="unet_jax", name=workdir.name, dir=str(workdir), config=dict(config), mode=mode)

    def log(step: int, numbers: Mapping[str, int | float]) -> None:
        run.log(dict(numbers), step=step)

    try:
        yield log
    finally:
        with contextlib.suppress(Exception):
            run.finish()


def _missing(name: str) -> InputError:
    return InputError(f"config.train.loggers names {name!r}, which is not installed: pip install 'unet_jax[{name}]'.")

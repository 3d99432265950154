"""What stays the same while a run trains, from epoch to epoch."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32
from ml_collections import ConfigDict

from unet_jax.data.load import DataSet
from unet_jax.inference.settings import SegmentSettings
from unet_jax.plan.prepared import PreparedCase
from unet_jax.runtime.signals import StopRequest
from unet_jax.runtime.watchdog import Watchdog
from unet_jax.training.loggers import Logger
from unet_jax.training.step import TrainState
from unet_jax.training.tensorboard import EventFile

# How much longer the first step and the first batch may take than others: programs are compiled, workers started.
FIRST = 4


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from epoch to epoch.

    Attributes:
        config: with every key.
        workdir: the run's folder.
        mesh: the devices.
        data: that is trained and validated on.
        validation: (position in cases, slice) of what is validated on.
        train_step: see `step.make_train_step`.
        train_steps: see `step.make_train_steps`.
        network_step: see `network.make_step`.
        settings: how the validation side is segmented.
        prepared: for patches, the preprocessed cases of the validation side by their position in the data.
        steps_per_epoch: how many.
        total_steps: of the run, at most; the last epoch may be shorter than the others.
        checkpoints: their folder.
        record: what each of them says that it was trained on: see `resume.trained_on`.
        stop: whether a signal asked for it.
        watchdog: ends the run if nothing moves.
        events: where TensorBoard's events go, if anywhere.
        loggers: what else gets the numbers of the history.
        validation_loss: of a state: see `validation_loss.make`; None where it is not taken.
    """

    config: ConfigDict
    workdir: Path
    mesh: Mesh
    data: DataSet
    validation: Int32[np.ndarray, "n 2"]
    train_step: Callable
    train_steps: Callable
    network_step: Callable
    settings: SegmentSettings
    steps_per_epoch: int
    total_steps: int
    checkpoints: Path
    record: Mapping[str, str]
    stop: StopRequest
    watchdog: Watchdog
    events: EventFile | None
    loggers: Sequence[Logger] = ()
    prepared: Mapping[int, PreparedCase] = dataclasses.field(default_factory=dict)
    validation_loss: Callable[[TrainState], float | None] | None = None


def saved(step: int) -> str:
    """The last words of a run whose state after this step is on disk."""
    return f"saved step {step}; run the same command to resume."

"""A few steps and one validated case, to tell what the whole run will take; nothing of them is kept."""

import dataclasses
import functools
import itertools
import time

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from unet_jax.data import regions
from unet_jax.data.load import DataSet
from unet_jax.data.regions import Classes
from unet_jax.inference.network import make_step
from unet_jax.inference.segment import segment_cases
from unet_jax.inference.settings import SegmentSettings
from unet_jax.plan.run_plan import RunPlan
from unet_jax.runtime import exchange
from unet_jax.runtime.device_memory import device_peak_gb
from unet_jax.runtime.host_memory import host_peak_gb
from unet_jax.runtime.mesh import prediction_mesh, to_local
from unet_jax.training import feed, setup
from unet_jax.training.samples import Index, Samples
from unet_jax.training.step import make_train_step
from unet_jax.training.step_settings import StepSettings
from unet_jax.wording import count, duration


@dataclasses.dataclass(frozen=True)
class Trial:
    """What was measured.

    Attributes:
        first_step: seconds, compiling included.
        step: seconds of a later one: their median.
        validation: seconds of the whole validation side, by one case of it; without its loss, checkpoint and pictures.
        host_gb: the most memory that this process has held, GB.
        device_gb: the most that a device has held, GB; None where it does not say.
    """

    first_step: float
    step: float
    validation: float
    host_gb: float
    device_gb: float | None

    def steps_within(self, seconds: float, steps_per_epoch: int) -> int:
        """The steps that so many seconds are enough for, validations included; at least one."""
        return max(int(seconds / (self.step + self.validation / steps_per_epoch)), 1)

    def lines(self, total_steps: int, steps_per_epoch: int) -> str:
        """Memory, and the time of a run of so many steps."""
        epochs = -(-total_steps // steps_per_epoch)
        seconds = self.first_step + total_steps * self.step + epochs * self.validation
        device = "" if self.device_gb is None else f", {self.device_gb:.2f} GB on the device"
        return "\n".join(
            [
                f"  memory      {self.host_gb:.2f} GB on the host{device}, at most so far",
                f"  first step  {duration(self.first_step)}, compiling included",
                f"  step        {duration(self.step)}",
                f"  validation  about {duration(self.validation)} an epoch",
                f"  whole run   about {duration(seconds)}: {count(epochs, 'epoch')}, {count(total_steps, 'step')}; "
                "without reading the data, checkpoints and the last scores",
            ]
        )


def run_trial(
    config: ConfigDict,
    mesh: Mesh,
    data: DataSet,
    classes: Classes,
    index: Index,
    sampled: Samples,
    plan: RunPlan | None,
    *,
    steps: int,
) -> Trial:
    """Runs so many steps, at least two, and segments the first validated case twice: the first time compiles.

    Args:
        config: the run's, with every key.
        mesh: the devices.
        data: that would be trained and validated on.
        classes: that the masks tell apart; empty for one.
        index: the split.
        sampled: the training side.
        plan: of a run on patches.
        steps: how many.
    """
    optimizer, schedule = setup.optimizer_and_schedule(config, sampled.steps_per_epoch)
    graphdef, state = setup.initial_state(config, data.channels, optimizer, mesh, classes)
    settings = StepSettings.of(config, classes, plan and plan.configuration, ignores=data.ignores, mesh=mesh)
    train_step = make_train_step(graphdef, optimizer, settings, schedule)
    seconds = []
    with feed.opened(config, sampled, mesh, 0, itertools.repeat(1, steps)) as batches:
        began = time.perf_counter()
        for fed in batches:
            state, logged = train_step(state, fed.on_device)
            jax.block_until_ready(logged)
            seconds.append(time.perf_counter() - began)
            began = time.perf_counter()

    own_mesh = mesh if exchange.count() == 1 else prediction_mesh(config.train.spatial)
    network_step = make_step(graphdef, config, own_mesh, overlap=regions.overlap(classes))
    network = functools.partial(network_step, *to_local(state.weights, own_mesh))
    of_first = index["val"][index["val"][:, 0] == index["val"][0, 0]]
    how = SegmentSettings.of(config, own_mesh, plan, classes)
    for _ in range(2):
        began = time.perf_counter()
        for _ in segment_cases(network, data.cases, of_first, how, title="validation", prepared=sampled.prepared):
            pass
        case = time.perf_counter() - began
    validation = case * len(index["val"]) / len(of_first)
    later = float(np.median(seconds[1:] or seconds))
    return Trial(seconds[0], later, validation, host_peak_gb(), device_peak_gb())

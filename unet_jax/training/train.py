"""A whole run in reading order: data, split, network, epochs of steps, checkpoints; then the scores."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32
from ml_collections import ConfigDict

from unet_jax.data import leaks, load, regions, splits
from unet_jax.data.load import DataSet
from unet_jax.data.splits import Split
from unet_jax.evaluation import observers, threshold
from unet_jax.evaluation.evaluate import score
from unet_jax.inference.network import make_step
from unet_jax.inference.settings import SegmentSettings
from unet_jax.plan import plan_file, run_plan
from unet_jax.plan.run_plan import RunPlan
from unet_jax.run import checkpoint, checkpoint_folder, history, resume
from unet_jax.run import folder as run_folder
from unet_jax.runtime import compilation_cache, exchange, host_memory
from unet_jax.runtime.mesh import data_mesh, is_primary, prediction_mesh
from unet_jax.runtime.out_of_memory import explained
from unet_jax.runtime.signals import StopRequest
from unet_jax.runtime.watchdog import Watchdog
from unet_jax.training import (
    budget,
    dispatch,
    feed,
    loggers,
    loop,
    progress,
    samples,
    setup,
    state_on_disk,
    validation_loss,
)
from unet_jax.training.pace import Pace
from unet_jax.training.running import Run
from unet_jax.training.step import TrainState, make_train_step, make_train_steps
from unet_jax.training.step_settings import StepSettings
from unet_jax.training.tensorboard import EventFile
from unet_jax.training.trial import run_trial
from unet_jax.wording import count

STACKS = "stacks.txt"
# Steps that are timed to fix those of a budget of minutes.
TIMED_STEPS = 6


def train(config: ConfigDict, workdir: Path, *, resuming: str = "auto", dry_run: bool = False) -> dict:
    """Trains what the config says, or resumes the run in `workdir`, and scores its test side.

    Args:
        config: resolved, with every key.
        workdir: the run's folder.
        resuming: "auto", "must" or "never": see `resume.check_resume`.
        dry_run: whether two steps and one validated case tell the memory and time of the whole run instead; nothing is
            written to `workdir` then.

    Returns:
        what the test side's metrics.json holds; nothing for a dry run.

    Raises:
        InputError: the config, the data or what lies in `workdir` cannot be used.
        StopRequestedError: SIGTERM or SIGINT came; what was trained is saved.
        NumbersError: an image, a loss or a gradient was NaN or infinite.
        StuckError: a worker process failed.
        BusyError: another process trains or scores in `workdir`.
        OutOfMemoryError: the device or the host has too little memory for the config.
        StorageError: a disk is full, read-only or failing.
    """
    with (
        run_folder.lock_run(workdir),
        explained(config),
        StopRequest() as stop,
        Watchdog(workdir / STACKS) as watchdog,
    ):
        stop.anywhere(lambda: "nothing was trained yet; run the same command to resume.")
        resume.check_resume(workdir, resuming)
        return _train(config, workdir, stop, watchdog, dry_run=dry_run)


def _train(config: ConfigDict, workdir: Path, stop: StopRequest, watchdog: Watchdog, *, dry_run: bool) -> dict:
    compilation_cache.use(config.train.compilation_cache)
    mesh = data_mesh(config.train.spatial)
    config, plan, data = _read(config, workdir, mesh)
    split, index = _divide(config, workdir, data)
    if plan is None:
        sampled = samples.of_slices(config, data.cases, index)
    else:
        sampled = samples.of_patches(config, data, index, plan)
    steps_per_epoch = sampled.steps_per_epoch

    # How long it takes. A run that resumes has weights of its own.
    begun = bool(checkpoint_folder.steps(workdir / run_folder.CHECKPOINTS))
    fresh = _without_initial_weights(config) if begun else config
    try_out = functools.partial(run_trial, fresh, mesh, data, data.classes, index, sampled, plan)
    if dry_run:
        found = try_out(steps=2)
        _say(f"Dry run of {workdir}: two steps and one validated case, of which nothing is kept.")
        _say(found.lines(budget.expected_steps(config, workdir, steps_per_epoch, found), steps_per_epoch))
        return {}
    total_steps = budget.total_steps(config, workdir, steps_per_epoch, lambda: try_out(steps=TIMED_STEPS))

    # The network and its optimiser, at their first step, or where the newest checkpoint has them.
    optimizer, schedule = setup.optimizer_and_schedule(config, steps_per_epoch, total_steps)
    graphdef, state = setup.initial_state(fresh, data.channels, optimizer, mesh, data.classes, data=data, say=_say)
    _say(progress.description(config, workdir, split.label, len(data.cases), index, state))
    record = resume.trained_on(data, split)
    state, records = _restore(workdir, state, mesh, record)
    resumed, epochs = int(state.step), history.epochs_of(records)
    if is_primary():
        _record(config, workdir, plan, data, split)
    if resumed:
        _say(progress.resumption(config, workdir, resumed, epochs, total_steps))

    # The epochs.
    step_settings = StepSettings.of(config, data.classes, plan and plan.configuration, ignores=data.ignores, mesh=mesh)
    # Of several processes, each validates its share of the cases on its own devices.
    own_mesh = mesh if exchange.count() == 1 else prediction_mesh(config.train.spatial)
    run = Run(
        config=config,
        workdir=workdir,
        mesh=mesh,
        data=data,
        validation=index["val"],
        train_step=make_train_step(graphdef, optimizer, step_settings, schedule),
        train_steps=make_train_steps(graphdef, optimizer, step_settings, schedule),
        network_step=make_step(graphdef, config, own_mesh, overlap=regions.overlap(data.classes)),
        settings=SegmentSettings.of(config, own_mesh, plan, data.classes),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        checkpoints=workdir / run_folder.CHECKPOINTS,
        record=record,
        stop=stop,
        watchdog=watchdog,
        events=None,
        prepared=sampled.prepared,
        validation_loss=validation_loss.make(graphdef, step_settings, sampled.validation, mesh),
    )
    stop.anywhere(lambda: f"nothing was trained since step {resumed}; run the same command to resume.")
    pace, periods = Pace(), (steps_per_epoch, config.train.checkpoint_every_steps)
    wanted = functools.partial(dispatch.chosen, config.train.steps_per_dispatch, pace)
    fed = feed.opened(config, sampled, mesh, resumed, dispatch.counts(resumed, total_steps, periods, wanted))
    with host_memory.thawing(), fed as batches, _logging(run, resumed, records) as logged:
        epochs = loop.train_epochs(logged, state, batches, epochs, pace)

    # The scores.
    stop.anywhere(lambda: "trained to the end and saved; run the same command to score it.")
    return _score(config, workdir, data, index["val"], epochs)


def _read(config: ConfigDict, workdir: Path, mesh: Mesh) -> tuple[ConfigDict, RunPlan | None, DataSet]:
    """The config with all that its plan decides, that plan, and the data, which are those of a run that is resumed.

    What is wrong with the config is told before the data are read, or, where they make the plan, right after.
    """
    is_planned, classes = config.plan.configuration is not None, load.load_classes(config)
    if not is_planned:
        setup.check(config, mesh, classes)
    data = load.load(config)
    if config.eval.second_masks:
        observers.second_observer(config)  # what is wrong with them is told now, and not after training
    config, plan = run_plan.resolve(config, data, workdir)
    if is_planned:
        setup.check(config, mesh, classes)
    for line in resume.compare(workdir, config, data):
        _say(line)
    return config, plan, data


def _divide(config: ConfigDict, workdir: Path, data: DataSet) -> tuple[Split, dict[str, Int32[np.ndarray, "n 2"]]]:
    """The split: who is trained on, and who is scored; and (position in cases, slice) of each side."""
    split, notes = setup.choose_split(config, data, workdir / run_folder.SPLIT)
    for line in notes:
        _say(line)
    exchange.agree(resume.identity(workdir, config, data, split), resume.ALIKE)
    full_list = workdir / leaks.FULL_LIST if is_primary() else None
    doubts = leaks.check_leaks(split, data.cases, data.listing, data.digests, full_list)
    for line in [*doubts, *leaks.side_warnings(split, data.cases, data.classes)]:
        _warn(line)
    return split, {side: splits.slices_of(split, data.cases, side) for side in splits.SIDES}


def _restore(workdir: Path, state: TrainState, mesh: Mesh, record: Mapping[str, str]) -> tuple[TrainState, list[dict]]:
    """The state of the newest checkpoint, or `state` where there is none, and the history up to it.

    From here on, the folder is of the run that was described.
    """
    checkpoints = workdir / run_folder.CHECKPOINTS
    checkpoint.prepare(checkpoints)
    state, warnings = state_on_disk.restore(checkpoints, state, mesh, record)
    for line in warnings:
        _warn(line)
    return state, history.rewind(workdir, int(state.step), int(state.epochs))


def _record(config: ConfigDict, workdir: Path, plan: RunPlan | None, data: DataSet, split: Split) -> None:
    """Writes what the run is, as far as it is not there."""
    if plan is not None:
        plan_file.write_sealed(workdir / plan_file.NAME, plan.plans)
    resume.record(workdir, config, data, split)
    if not (workdir / run_folder.SPLIT).exists():
        splits.write(split, workdir / run_folder.SPLIT)


@contextlib.contextmanager
def _logging(run: Run, resumed: int, records: list[dict]) -> Iterator[Run]:
    """The run with TensorBoard's events, which get the records so far, and all loggers; they end with the block."""
    config = run.config
    has_events = config.train.tensorboard and is_primary()
    events = EventFile(run.workdir, resumed, records, config.to_dict()) if has_events else None
    closing_events = contextlib.closing(events) if events else contextlib.nullcontext()
    logging = loggers.opened(config.train.loggers if is_primary() else (), run.workdir, config.to_dict())
    with closing_events, logging as logs:
        yield dataclasses.replace(run, events=events, loggers=logs)


def _score(
    config: ConfigDict, workdir: Path, data: DataSet, validation: Int32[np.ndarray, "n 2"], epochs: list[dict]
) -> dict:
    """Scores the test side, by a threshold that is chosen first if the config says so."""
    scored = history.best_epoch(epochs) if config.eval.checkpoint == "best" else epochs[-1]
    _say(f"Trained {count(len(epochs), 'epoch')}; scoring the {config.eval.checkpoint}, epoch {scored['epoch']}.")
    if config.eval.choose_threshold:
        config = config.copy_and_resolve_references()
        mesh = prediction_mesh(config.train.spatial)
        config.eval.threshold = threshold.choose(workdir, config, data.cases, validation, mesh)
    return score(workdir, config, data)


def _without_initial_weights(config: ConfigDict) -> ConfigDict:
    """For a run that resumes: its checkpoint takes their place, and they may be gone."""
    copy = config.copy_and_resolve_references()
    with copy.unlocked():
        copy.train.initial_weights = None
    return copy


def _say(text: str) -> None:
    if is_primary():
        print(text, flush=True)


def _warn(text: str) -> None:
    if is_primary():
        print(f"warning: {text}", file=sys.stderr, flush=True)

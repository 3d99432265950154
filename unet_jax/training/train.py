"""A whole run in reading order: data, split, network, epochs of steps, checkpoints; then the scores."""

import contextlib
import functools
import sys
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from unet_jax.data import labels, pipeline, splits
from unet_jax.data.slices import Slices
from unet_jax.errors import NumbersError
from unet_jax.evaluation import threshold
from unet_jax.evaluation.evaluate import held, score
from unet_jax.inference.from_config import load_cases, load_classes
from unet_jax.run import checkpoint
from unet_jax.run import folder as run_folder
from unet_jax.run import resume as identity
from unet_jax.runtime import compilation_cache, host_memory
from unet_jax.runtime.mesh import data_mesh, is_primary, replicated
from unet_jax.runtime.out_of_memory import explained
from unet_jax.runtime.signals import StopRequest
from unet_jax.runtime.watchdog import Watchdog
from unet_jax.training import loop, progress
from unet_jax.training import setup as recipe
from unet_jax.training import step as steps
from unet_jax.training.step import TrainState
from unet_jax.training.tensorboard import EventFile

STACKS = "stacks.txt"


def train(config: ConfigDict, workdir: Path, *, resume: str = "auto", defaults: ConfigDict | None = None) -> dict:
    """Trains what the config says, or goes on with the run in `workdir`, and scores its test side.

    Args:
        config: resolved, with every key.
        workdir: the run's folder.
        resume: "auto", "must" or "never": see `identity.check_resume`.
        defaults: the program's own config: see `identity.compare`.

    Returns:
        what the test side's metrics.json holds.

    Raises:
        InputError: the config, the data or what lies in `workdir` cannot be used.
        StopRequestedError: SIGTERM or SIGINT came; what was trained is saved.
        NumbersError: an image, a loss or a gradient was NaN or infinite.
        StuckError: a worker process failed.
        BusyError: another process trains or scores in `workdir`.
        OutOfMemoryError: the device or the host has too little memory for the config.
        StorageError: a disk is full, read-only or failing.
    """
    # jax.distributed notices SIGTERM itself, and agrees with all processes on the step to stop after.
    with (
        held(workdir),
        explained(config),
        StopRequest(listen=not jax.distributed.is_initialized()) as stop,
        Watchdog(workdir / STACKS) as watchdog,
    ):
        stop.anywhere(lambda: "nothing was trained yet; the same command goes on.")
        identity.check_resume(workdir, resume)
        return _train(config, workdir, defaults, stop, watchdog)


def _train(
    config: ConfigDict, workdir: Path, defaults: ConfigDict | None, stop: StopRequest, watchdog: Watchdog
) -> dict:
    compilation_cache.use(config.train.compilation_cache)
    mesh = data_mesh()
    classes = load_classes(config)
    recipe.check(config, mesh, labels.count(classes))
    cases, fingerprint, digests = load_cases(config)
    for line in identity.compare(workdir, config, fingerprint, digests, defaults):
        _say(line)
    split_path = workdir / run_folder.SPLIT
    split = splits.read(split_path, cases) if split_path.exists() else recipe.drawn_split(config, cases)
    index = {side: splits.slices_of(split, cases, side) for side in splits.SIDES}
    weigh = recipe.pixel_weights(config, cases, index["train"])
    slices = Slices(cases, index["train"], config.data.slab, weigh, config.data.neighbours)
    steps_per_epoch = pipeline.steps_per_epoch(len(slices), config.train.batch_size, jax.process_count())

    optimizer, schedule = recipe.optimizer_and_schedule(config, steps_per_epoch)
    graphdef, state = recipe.initial_state(config, cases[0].image.shape[-1], optimizer, mesh, labels.count(classes))

    if is_primary():
        identity.record(workdir, config, fingerprint, digests, classes)
        if not split_path.exists():
            splits.write(split, split_path)
    _say(progress.description(config, workdir, split.label, len(cases), index, state))
    checkpoints = workdir / run_folder.CHECKPOINTS
    checkpoint.prepare(checkpoints)
    state = _restore(checkpoints, state, mesh)
    resumed = int(state.step)
    history = run_folder.rewind_history(workdir, resumed, int(state.epochs))
    epochs = run_folder.epochs_of(history)
    if resumed:
        _say(progress.resumption(config, workdir, resumed, epochs))

    run = loop.Run(
        config=config,
        workdir=workdir,
        mesh=mesh,
        cases=cases,
        classes=tuple(classes),
        validation=index["val"],
        train_step=recipe.train_step(config, graphdef, optimizer, labels.count(classes)),
        probability_step=steps.make_probability_step(graphdef, image_size=config.data.image_size),
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
        save=functools.partial(_save, checkpoints),
        stop=stop,
        watchdog=watchdog,
        events=EventFile(workdir, resumed, history, config.to_dict()) if config.train.tensorboard else None,
    )
    stop.anywhere(lambda: f"nothing was trained since step {resumed}; the same command goes on.")
    stream = pipeline.stream(recipe.training_batches(config, slices, resumed))
    with host_memory.thawing(), contextlib.closing(stream) as batches:
        epochs = loop.train_epochs(run, state, batches, epochs)
    stop.anywhere(lambda: "trained to the end and saved; the same command scores it.")
    scored = progress.best(epochs) if config.eval.checkpoint == "best" else epochs[-1]
    _say(f"Trained {len(epochs)} epochs; scoring the {config.eval.checkpoint}, epoch {scored['epoch']}.")
    if config.eval.choose_threshold:
        config = config.copy_and_resolve_references()
        config.eval.threshold = threshold.choose(workdir, config, cases, index["val"], mesh)
    return score(workdir, config)


def _save(checkpoints: Path, state: TrainState, score: float | None) -> None:
    items = _items(state)
    if leaves := steps.nonfinite(items):
        raise NumbersError(
            f"The state after step {int(state.step)} is NaN or infinite in {', '.join(leaves)}, and was not saved: "
            "train anew with a smaller config.optim.learning_rate."
        )
    checkpoint.save(checkpoints, int(state.step), items, score)


def _restore(checkpoints: Path, state: TrainState, mesh: Mesh) -> TrainState:
    """The newest checkpoint that is whole, or `state` itself before the first; damaged ones are set aside."""
    restored = checkpoint.restore(checkpoints, "newest", checkpoint.on_devices(_items(state), replicated(mesh)))
    if restored is None:
        return state
    for line in checkpoint.warnings(checkpoints, restored):
        _warn(line)
    checkpoint.set_aside(checkpoints, restored.damaged)
    model, training = restored.items["model"], restored.items["training"]
    trained = training.pop("trained", None)
    return TrainState(**(trained or model), **training, average=model if trained else {})


def _items(state: TrainState) -> dict[str, dict]:
    """What a checkpoint holds: "model" is what to predict with, "training" all else that training goes on from."""
    params, batch_stats = state.weights
    trained = {"trained": {"params": state.params, "batch_stats": state.batch_stats}} if state.average else {}
    return {
        "model": {"params": params, "batch_stats": batch_stats},
        "training": {"step": state.step, "opt_state": state.opt_state, "totals": state.totals}
        | {"epochs": state.epochs, "watch": state.watch}
        | trained,
    }


def _say(text: str) -> None:
    if is_primary():
        print(text, flush=True)


def _warn(text: str) -> None:
    if is_primary():
        print(f"warning: {text}", file=sys.stderr, flush=True)

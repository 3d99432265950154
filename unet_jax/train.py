"""A whole run in reading order: data, split, network, epochs of steps, checkpoints; then the scores."""

import contextlib
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Int32
from ml_collections import ConfigDict

from unet_jax import (
    checkpoint,
    compilation_cache,
    events,
    identity,
    loop,
    losses,
    models,
    optim,
    postprocess,
    progress,
    run_folder,
    steps,
    threshold,
    weight_maps,
)
from unet_jax.data import pipeline, splits
from unet_jax.data.case import Case
from unet_jax.errors import InputError, NumbersError
from unet_jax.evaluate import CHECKPOINTS, held, score
from unet_jax.from_config import input_channels, load_cases, load_classes
from unet_jax.models import weights
from unet_jax.out_of_memory import explained
from unet_jax.sharding import check_batch_size, data_mesh, is_primary, replicated
from unet_jax.signals import StopRequest
from unet_jax.steps import TrainState
from unet_jax.watchdog import Watchdog

STACKS = "stacks.txt"
NONFINITE = ("stop", "skip")


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
    _check(config, mesh, len(classes) or 1)
    cases, fingerprint, digests = load_cases(config)
    for line in identity.compare(workdir, config, fingerprint, digests, defaults):
        _say(line)
    split_path = workdir / run_folder.SPLIT
    split = splits.read(split_path, cases) if split_path.exists() else _drawn(config, cases)
    index = {side: splits.slices_of(split, cases, side) for side in splits.SIDES}
    weigh = _weigh(config, cases, index["train"])
    slices = pipeline.Slices(cases, index["train"], config.data.slab, weigh, config.data.neighbours)
    steps_per_epoch = pipeline.steps_per_epoch(len(slices), config.train.batch_size, jax.process_count())

    optimizer, schedule = _optimizer(config, steps_per_epoch)
    graphdef, state = _initial_state(config, cases[0].image.shape[-1], optimizer, mesh, len(classes) or 1)

    if is_primary():
        identity.record(workdir, config, fingerprint, digests, classes)
        if not split_path.exists():
            splits.write(split, split_path)
    _say(progress.description(config, workdir, split.label, len(cases), index, state))
    checkpoints = workdir / run_folder.CHECKPOINTS
    checkpoint.prepare(checkpoints)
    state = _restore(checkpoints, state, mesh)
    resumed = int(state.step)
    epochs = run_folder.epochs_of(run_folder.rewind_history(workdir, resumed, int(state.epochs)))
    if is_primary():
        events.rewind(workdir, resumed, int(state.epochs))
    if resumed:
        _say(progress.resumption(config, workdir, resumed, epochs))

    run = loop.Run(
        config=config,
        workdir=workdir,
        mesh=mesh,
        cases=cases,
        classes=tuple(classes),
        validation=index["val"],
        train_step=_train_step(config, graphdef, optimizer, len(classes) or 1),
        probability_step=steps.make_probability_step(graphdef, image_size=config.data.image_size),
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
        save=functools.partial(_save, checkpoints),
        stop=stop,
        watchdog=watchdog,
        events=events.event_file(workdir, resumed, config.to_dict()) if config.train.tensorboard else None,
    )
    stop.anywhere(lambda: f"nothing was trained since step {resumed}; the same command goes on.")
    with contextlib.closing(pipeline.stream(_training_batches(config, slices, resumed))) as batches:
        epochs = loop.train_epochs(run, state, batches, epochs)
    stop.anywhere(lambda: "trained to the end and saved; the same command scores it.")
    scored = progress.best(epochs) if config.eval.checkpoint == "best" else epochs[-1]
    _say(f"Trained {len(epochs)} epochs; scoring the {config.eval.checkpoint}, epoch {scored['epoch']}.")
    if config.eval.choose_threshold:
        config = config.copy_and_resolve_references()
        config.eval.threshold = threshold.choose(workdir, config, cases, index["val"], mesh)
    return score(workdir, config)


def _check(config: ConfigDict, mesh: Mesh, classes: int = 1) -> None:
    """Raises InputError for what can be told before the data are read, which may take a while."""
    check_batch_size(config.train.batch_size, mesh)
    if config.train.epochs < 1:
        raise InputError(f"config.train.epochs is {config.train.epochs}; it must be at least 1.")
    if config.eval.checkpoint not in CHECKPOINTS:
        raise InputError(
            f"config.eval.checkpoint is {config.eval.checkpoint!r}; it must be one of {', '.join(CHECKPOINTS)}."
        )
    if config.train.nonfinite not in NONFINITE:
        raise InputError(
            f"config.train.nonfinite is {config.train.nonfinite!r}; it must be one of {', '.join(NONFINITE)}."
        )
    if config.optim.ema_decay is not None and not 0 < config.optim.ema_decay < 1:
        raise InputError(
            f"config.optim.ema_decay is {config.optim.ema_decay}; it must lie between 0 and 1, or be None for no "
            "average."
        )
    if config.eval.choose_threshold and classes > 1:
        raise InputError(
            "config.eval.choose_threshold is set, and of several classes a pixel is of the likeliest: set it to False."
        )
    losses.check_weights(config.loss.to_dict(), classes)
    postprocess.check(config.eval.postprocess.to_dict(), config.data.split_by)
    _optimizer(config, steps_per_epoch=1)
    model = nnx.eval_shape(lambda: models.build(in_channels=1, num_classes=1, rngs=nnx.Rngs(0), **config.model))
    rank, slab = config.model.get("rank", 2), config.data.slab
    if (rank == 3) != (slab is not None):
        raise InputError(
            f"config.model.rank is {rank} and config.data.slab is {slab}: a network of rank 3 needs a slab, one "
            "of rank 2 needs None."
        )
    if config.data.neighbours < 0 or (config.data.neighbours and slab is not None):
        raise InputError(
            f"config.data.neighbours is {config.data.neighbours}; it must be at least 0, and 0 for a network of "
            "rank 3, which sees the neighbours in its slab."
        )
    size = (config.data.image_size,) * 2 if slab is None else (slab, *(config.data.image_size,) * 2)
    if not model.margin:  # else the step pads the image to what fits
        models.check_size(size, model.divisor)


def _drawn(config: ConfigDict, cases: list[Case]) -> splits.Split:
    return splits.make(
        cases,
        split_by=config.data.split_by,
        seed=config.seed,
        val_fraction=config.data.val_fraction,
        test_fraction=config.data.test_fraction,
        fold=config.data.fold,
        folds=config.data.folds,
    )


def _weigh(config: ConfigDict, cases: list[Case], index: Int32[np.ndarray, "n 2"]) -> Callable | None:
    """What makes pixel weights of a mask, from the training side's balance of tumour and background."""
    border = config.border_weights
    if border.w0 == 0:
        return None
    balance = weight_maps.balanced_class_weights(cases[position].mask[number] for position, number in index)
    return functools.partial(weight_maps.border_weight_map, class_weights=balance, w0=border.w0, sigma=border.sigma)


def _optimizer(config: ConfigDict, steps_per_epoch: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    schedule = optim.learning_rate_schedule(
        config.optim.schedule,
        peak=config.optim.learning_rate,
        warmup_steps=config.optim.warmup_steps,
        steps_per_epoch=steps_per_epoch,
        total_steps=config.train.epochs * steps_per_epoch,
    )
    optimizer = optim.optimizer(
        config.optim.name, schedule, weight_decay=config.optim.weight_decay, clip_norm=config.optim.clip_norm
    )
    return optimizer, schedule


def _initial_state(
    config: ConfigDict, channels: int, optimizer: optax.GradientTransformation, mesh: Mesh, classes: int = 1
) -> tuple[nnx.GraphDef, TrainState]:
    sizes = {"in_channels": input_channels(config, channels), "num_classes": steps.logit_channels(classes)}
    graphdefs = []

    def drawn() -> tuple[dict, dict]:
        model = models.build(**sizes, rngs=nnx.Rngs(params=config.seed), **config.model)
        graphdef, params, batch_stats = steps.split_model(model)
        # No array and so no result of a compiled program; building the network once more would take half a second.
        graphdefs.append(graphdef)
        return params, batch_stats

    # One compiled program draws all parameters; by themselves, each shape would be compiled anew.
    params, batch_stats = jax.jit(drawn)()
    [graphdef] = graphdefs
    if config.train.initial_weights:
        params, batch_stats = weights.initialise(params, batch_stats, Path(config.train.initial_weights))
    averaged = config.optim.ema_decay is not None
    state = jax.jit(functools.partial(steps.init_state, optimizer=optimizer, averaged=averaged))(params, batch_stats)
    return graphdef, jax.device_put(state, replicated(mesh))


def _train_step(
    config: ConfigDict, graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, classes: int
) -> Callable:
    return steps.make_train_step(
        graphdef,
        optimizer,
        image_size=config.data.image_size,
        loss_weights=config.loss.to_dict(),
        augment_settings=config.augment.to_dict(),
        seed=config.seed,
        classes=classes,
        skip_nonfinite=config.train.nonfinite == "skip",
        spike_factor=config.train.spike_factor,
        ema_decay=config.optim.ema_decay,
    )


def _training_batches(config: ConfigDict, slices: pipeline.Slices, start_step: int):
    return pipeline.training_batches(
        slices,
        batch_size=config.train.batch_size,
        seed=config.seed,
        epochs=config.train.epochs,
        start_step=start_step,
        shard=jax.process_index(),
        shards=jax.process_count(),
        workers=config.data.workers,
        tumour_share=config.data.tumour_share,
    )


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

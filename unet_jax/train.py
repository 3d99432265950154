"""A whole run in reading order: data, split, network, epochs of steps, checkpoints; then the scores."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Int32, Int64
from ml_collections import ConfigDict
from tqdm import tqdm

from unet_jax import (
    checkpoint,
    losses,
    models,
    optim,
    pictures,
    postprocess,
    progress,
    report,
    run_folder,
    scoring,
    steps,
    weight_maps,
)
from unet_jax.data import pipeline, splits
from unet_jax.data.case import Case
from unet_jax.errors import InputError
from unet_jax.evaluate import CHECKPOINTS, count_slices, evaluate, load_cases, segment
from unet_jax.models import weights
from unet_jax.sharding import check_batch_size, data_mesh, global_batch, is_primary, replicated
from unet_jax.steps import TrainState, zero_totals


def train(config: ConfigDict, workdir: Path) -> dict:
    """Trains what the config says, or goes on with the run in `workdir`, and scores its test side.

    Returns:
        what the test side's metrics.json holds.

    Raises:
        InputError: the config, the data or what lies in `workdir` cannot be used.
    """
    mesh = data_mesh()
    _check(config, mesh)
    cases, fingerprint = load_cases(config)
    split_path = workdir / run_folder.SPLIT
    split = splits.read(split_path, cases) if split_path.exists() else _drawn(config, cases)
    index = {side: splits.slices_of(split, cases, side) for side in splits.SIDES}
    slices = pipeline.Slices(cases, index["train"], config.data.slab, _weigh(config, cases, index["train"]))
    steps_per_epoch = pipeline.steps_per_epoch(len(slices), config.train.batch_size, jax.process_count())

    optimizer, schedule = _optimizer(config, steps_per_epoch)
    graphdef, state = _initial_state(config, cases[0].image.shape[-1], optimizer, mesh)

    run_folder.start(workdir, config.to_dict(), fingerprint)
    if not split_path.exists():
        splits.write(split, split_path)
    _say(progress.description(config, workdir, split.label, len(cases), index, state))
    manager = checkpoint.open_checkpoints(workdir / run_folder.CHECKPOINTS)
    if manager.latest_step() is not None:
        state = _restore(manager, state, mesh)
    history = run_folder.rewind_history(workdir, int(state.step))
    epochs = run_folder.epochs_of(history)
    if int(state.step):
        _say(progress.resumption(config, workdir, int(state.step), epochs))

    train_step = steps.make_train_step(
        graphdef,
        optimizer,
        image_size=config.data.image_size,
        loss_weights=config.loss.to_dict(),
        augment_settings=config.augment.to_dict(),
        seed=config.seed,
    )
    run = _Run(config, workdir, mesh, manager, train_step, schedule, steps_per_epoch)
    probability_step = steps.make_probability_step(graphdef, image_size=config.data.image_size)
    batches = iter(_training_batches(config, slices, int(state.step)))
    while not progress.finished(config, epochs):
        began = time.perf_counter()
        state = _train_epoch(run, state, batches)
        probability = functools.partial(probability_step, state.params, state.batch_stats)
        predicted = segment(probability, config, cases, index["val"], mesh, title="validation")
        scores = report.summarise(*_rows_and_counts(cases, predicted))
        record = progress.epoch_record(state, len(epochs) + 1, scores, time.perf_counter() - began)
        epochs.append(record)
        state = state.replace(totals=jax.device_put(zero_totals(), replicated(mesh)))
        if is_primary():
            run_folder.append_history(workdir, record)
            pictures.write_curves(workdir / "curves.png", epochs)
        _save(manager, state, record["val_dice"])
        _say(progress.epoch_line(config, epochs))
    manager.close()
    scored = progress.best(epochs) if config.eval.checkpoint == "best" else epochs[-1]
    _say(f"Trained {len(epochs)} epochs; scoring the {config.eval.checkpoint}, epoch {scored['epoch']}.")
    return evaluate(workdir)


@dataclasses.dataclass(frozen=True)
class _Run:
    """What stays the same from epoch to epoch."""

    config: ConfigDict
    workdir: Path
    mesh: Mesh
    manager: ocp.CheckpointManager
    train_step: Callable
    schedule: optax.Schedule
    steps_per_epoch: int


def _train_epoch(run: _Run, state: TrainState, batches: Iterator[dict[str, np.ndarray]]) -> TrainState:
    """Steps to the end of the epoch that `state` stands in, logging and saving on the way."""
    settings = run.config.train
    first = int(state.step)
    epoch, done = divmod(first, run.steps_per_epoch)
    last = (epoch + 1) * run.steps_per_epoch
    logged, began, since = None, time.perf_counter(), first
    with tqdm(
        desc=f"epoch {epoch + 1}", initial=done, total=run.steps_per_epoch, unit="step", disable=None, leave=False
    ) as bar:
        for step in range(first + 1, last + 1):
            batch = next(batches)
            previous = logged
            for_device = {key: array for key, array in batch.items() if key in ("image", "mask", "weights")}
            state, logged = run.train_step(state, global_batch(for_device, run.mesh))
            # One step runs while the next is prepared; more would only pile up batches in memory.
            jax.block_until_ready(previous)
            bar.update()
            if step % settings.log_every_steps == 0:
                values = {key: float(value) for key, value in logged.items()}
                if not np.isfinite(values["loss"]):
                    raise InputError(
                        f"The loss of step {step} is {values['loss']}: train anew with a smaller "
                        "config.optim.learning_rate, or with config.optim.clip_norm=1."
                    )
                seconds, began = time.perf_counter() - began, time.perf_counter()
                bar.set_postfix(loss=f"{values['loss']:.3f}")
                values |= {
                    "learning_rate": float(run.schedule(step - 1)),
                    "images_per_second": settings.batch_size * (step - since) / seconds,
                }
                since = step
                if is_primary():
                    run_folder.append_history(run.workdir, {"step": step, **values})
            every = settings.checkpoint_every_steps
            if every and step % every == 0 and step < last:
                _save(run.manager, state, None)
    return state


def _check(config: ConfigDict, mesh: Mesh) -> None:
    """Raises InputError for what can be told before the data are read, which may take a while."""
    check_batch_size(config.train.batch_size, mesh)
    if config.train.epochs < 1:
        raise InputError(f"config.train.epochs is {config.train.epochs}; it must be at least 1.")
    if config.eval.checkpoint not in CHECKPOINTS:
        raise InputError(
            f"config.eval.checkpoint is {config.eval.checkpoint!r}; it must be one of {', '.join(CHECKPOINTS)}."
        )
    losses.check_weights(config.loss.to_dict())
    postprocess.check(config.eval.postprocess.to_dict(), config.data.split_by)
    _optimizer(config, steps_per_epoch=1)
    model = nnx.eval_shape(lambda: models.build(in_channels=1, num_classes=1, rngs=nnx.Rngs(0), **config.model))
    rank, slab = config.model.get("rank", 2), config.data.slab
    if (rank == 3) != (slab is not None):
        raise InputError(
            f"config.model.rank is {rank} and config.data.slab is {slab}: a network of rank 3 needs a slab, one "
            "of rank 2 needs None."
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
    config: ConfigDict, channels: int, optimizer: optax.GradientTransformation, mesh: Mesh
) -> tuple[nnx.GraphDef, TrainState]:
    def built() -> nnx.Module:
        return models.build(in_channels=channels, num_classes=1, rngs=nnx.Rngs(params=config.seed), **config.model)

    graphdef, *_ = steps.split_model(nnx.eval_shape(built))
    # One compiled program draws all parameters; by themselves, each shape would be compiled anew.
    params, batch_stats = jax.jit(lambda: steps.split_model(built())[1:])()
    if config.train.initial_weights:
        params, batch_stats = weights.initialise(params, batch_stats, Path(config.train.initial_weights))
    state = steps.init_state(params, batch_stats, optimizer)
    return graphdef, jax.device_put(state, replicated(mesh))


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


def _save(manager: ocp.CheckpointManager, state: TrainState, score: float | None) -> None:
    checkpoint.save(manager, int(state.step), _items(state), score)


def _restore(manager: ocp.CheckpointManager, state: TrainState, mesh: Mesh) -> TrainState:
    """The newest checkpoint, in the shape of `state`."""
    like = checkpoint.on_devices(_items(state), replicated(mesh))
    items = checkpoint.restore(manager, manager.latest_step(), like)
    return TrainState(**items["model"], **items["training"])


def _items(state: TrainState) -> dict[str, dict]:
    return {
        "model": {"params": state.params, "batch_stats": state.batch_stats},
        "training": {"step": state.step, "opt_state": state.opt_state, "totals": state.totals},
    }


def _rows_and_counts(
    cases: list[Case], predicted: Iterator[scoring.Predicted]
) -> tuple[list[scoring.Row], Int64[np.ndarray, "n 3"]]:
    """What overlap tells of each case: surfaces and lesions wait for the evaluation."""
    index, counts = count_slices(predicted, cases)
    return report.case_rows(cases, index, counts), counts


def _say(text: str) -> None:
    if is_primary():
        print(text, flush=True)

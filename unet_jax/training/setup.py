"""What a config's training needs, made: checks, split, optimiser and first state."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from unet_jax import losses, models
from unet_jax.data import regions, split_of_run
from unet_jax.data.formats import sources
from unet_jax.data.load import DataSet
from unet_jax.data.regions import Classes
from unet_jax.data.splits import Split
from unet_jax.errors import InputError
from unet_jax.inference import postprocess
from unet_jax.inference.network import input_channels, output_channels
from unet_jax.models.functional import split_model
from unet_jax.models.layers import each_axis
from unet_jax.runtime.mesh import check_batch_size, replicated
from unet_jax.training import augment, dispatch, feed, loggers, optim, parts, start
from unet_jax.training.step import TrainState, init_state

CHECKPOINTS = ("best", "newest")
NONFINITE = ("stop", "skip")


def check(config: ConfigDict, mesh: Mesh, classes: Classes = ()) -> None:
    """Raises InputError for what can be told before the data are read, which may take a while."""
    if config.train.batch_size is None:
        raise InputError("config.train.batch_size is None, and there is no plan to take it from: give a number.")
    if config.train.accumulate < 1:
        raise InputError(f"config.train.accumulate is {config.train.accumulate}; it must be at least 1.")
    check_batch_size(config.train.batch_size, mesh, config.train.accumulate)
    if config.train.epochs < 1:
        raise InputError(f"config.train.epochs is {config.train.epochs}; it must be at least 1.")
    _check_budget(config)
    loggers.check(config.train.loggers)
    dispatch.check(config)
    feed.check(config)
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
    if config.eval.choose_threshold and classes:
        raise InputError(
            "config.eval.choose_threshold is set, and of several classes a pixel is of the likeliest: set it to False."
        )
    overlap, loss, count = regions.overlap(classes), config.loss.to_dict(), regions.count(classes)
    losses.check_weights(losses.for_overlap(loss, count) if overlap else loss, count, overlap=overlap)
    postprocess.check(config.eval.postprocess.to_dict(), config.data.split_by)
    augment.check(config.augment.to_dict())
    optimizer_and_schedule(config, steps_per_epoch=1)
    model = nnx.eval_shape(lambda: models.of_config(config.model, 1, 1, nnx.Rngs(0)))
    _check_geometry(config, model)
    if "space" in mesh.shape:
        _check_slabs(config, model, mesh.shape["space"])
    if config.train.accumulate > 1 and split_model(model)[2]:
        raise InputError(
            f"config.train.accumulate is {config.train.accumulate}, and the network normalises by the batch, whose "
            "parts have other statistics: use config.model.norm='instance' or 'group', or accumulate=1."
        )


def _check_budget(config: ConfigDict) -> None:
    """Raises InputError for a budget that cannot be kept."""
    for name in ("steps", "minutes"):
        value = config.train[name]
        if value is not None and not value > 0:
            raise InputError(f"config.train.{name} is {value}; it must be above 0, or None for no limit.")
    if config.train.minutes is not None and jax.process_count() > 1:
        raise InputError("config.train.minutes is measured by one process, and there are several: give steps instead.")


def _check_slabs(config: ConfigDict, model: nnx.Module, slabs: int) -> None:
    """Raises InputError unless what the network sees can be cut into slabs along its first axis."""
    if model.margin:
        raise InputError(
            f"config.train.spatial is ({slabs},), and config.model.name={config.model.name!r} pads nothing, so that "
            "slabs would shrink: choose another network, or None."
        )
    key = "data.image_size" if config.data.slab is None else "data.slab"
    key = key if config.data.patch is None else "data.patch"
    size = config.data.get(key.removeprefix("data."))
    first = size if isinstance(size, int) else size[0]
    divisor = each_axis(model.divisor, config.model.get("rank", 2))[0]
    if first % (slabs * divisor):
        fits = -(-first // (slabs * divisor)) * slabs * divisor
        raise InputError(
            f"config.train.spatial is ({slabs},), and the first axis of config.{key}={size} has {first} samples: they "
            f"must be a multiple of {slabs} × {divisor}, slabs times the network's strides, such as {fits}."
        )


def _check_geometry(config: ConfigDict, model: nnx.Module) -> None:
    """Raises InputError unless network, slab, neighbours and image size go together."""
    if config.data.patch is not None:
        _check_patches(config, model)
        return
    if config.data.spacing is not None or config.train.steps_per_epoch is not None:
        raise InputError("config.data.spacing and config.train.steps_per_epoch are for patches: set config.data.patch.")
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
        key = "image_size" if slab is None else "slab and image_size"
        _check_size(f"config.data.{key}", size, model)


def _check_patches(config: ConfigDict, model: nnx.Module) -> None:
    """Raises InputError unless the patches suit the network, and nothing is asked for that only slices have."""
    patch, rank = tuple(config.data.patch), config.model.get("rank", 2)
    if len(patch) != rank:
        raise InputError(f"config.data.patch is {patch}, and config.model.rank is {rank}: give one number an axis.")
    steps, share = config.train.steps_per_epoch, config.data.foreground_share
    if steps is not None and steps < 1:
        raise InputError(f"config.train.steps_per_epoch is {steps}; it must be at least 1.")
    if not 0 <= share <= 1:
        raise InputError(f"config.data.foreground_share is {share}; it must be from 0 to 1.")
    of_slices = {
        "data.slab": config.data.slab is not None,
        "data.neighbours": config.data.neighbours != 0,
        "data.tumour_share": config.data.tumour_share != 0,
        "border_weights.w0": config.border_weights.w0 != 0,
    }
    if any(of_slices.values()):
        names = ", ".join(f"config.{name}" for name, is_set in of_slices.items() if is_set)
        raise InputError(f"{names}: not for patches (config.data.patch): leave the default, or train on slices.")
    if config.data.split_by == "slice":
        raise InputError("config.data.split_by is 'slice', and patches are cut from whole cases: make it 'patient'.")
    if model.margin:
        raise InputError(
            f"config.model.name={config.model.name!r} pads nothing, and cannot have patches: choose another."
        )
    _check_size("config.data.patch", patch, model)


def _check_size(key: str, size: tuple[int, ...], model: nnx.Module) -> None:
    try:
        models.check_size(size, model.divisor)
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def choose_split(config: ConfigDict, data: DataSet, path: Path) -> tuple[Split, list[str]]:
    """The run's split, which `path` may hold, and what the user should be told of it: see `split_of_run.choose`."""
    return split_of_run.choose(path, config.data.to_dict(), config.seed, data.cases, data.listing, data.unit)


def optimizer_and_schedule(
    config: ConfigDict, steps_per_epoch: int, total_steps: int | None = None
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimiser, and its learning rate by step, for epochs of so many steps.

    The schedule is laid out over `total_steps`, or without them over all epochs.
    """
    schedule = optim.learning_rate_schedule(
        config.optim.schedule,
        peak=config.optim.learning_rate,
        warmup_steps=config.optim.warmup_steps,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps or config.train.epochs * steps_per_epoch,
    )
    optimizer = optim.optimizer(
        config.optim.name,
        schedule,
        weight_decay=config.optim.weight_decay,
        clip_norm=config.optim.clip_norm,
        coupled_decay=config.optim.coupled_decay,
    )
    factors = parts.rates(config.optim.part_rates)
    return optax.chain(optimizer, parts.scaled(factors)) if factors else optimizer, schedule


def initial_state(
    config: ConfigDict,
    channels: int,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    classes: Classes = (),
    *,
    data: DataSet | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[nnx.GraphDef, TrainState]:
    """The network's structure, and the state before the first step on every device of the mesh.

    Args:
        config: with every key.
        channels: of the data's images.
        optimizer: of `optimizer_and_schedule`.
        mesh: the devices.
        classes: several; empty for one.
        data: which names channels, by which a run's weights are adapted; None names none.
        say: is told what of config.train.initial_weights was taken, a line each.

    Raises:
        InputError: initial_weights cannot be used, or there is no such part as freeze or part_rates names.
    """
    sizes = input_channels(config, channels, classes), output_channels(classes)

    @jax.jit  # One compiled program draws all parameters; by themselves, each shape would be compiled separately.
    def draw() -> tuple[nnx.GraphDef, dict, dict]:
        return split_model(models.of_config(config.model, *sizes, nnx.Rngs(params=config.seed)))

    graphdef, params, batch_stats = draw()
    parts.check("train.freeze", parts.names(config.train.freeze), params)
    parts.check("optim.part_rates", parts.rates(config.optim.part_rates), params)
    names = (data.channel_names if data else ()) or sources.unnamed(channels)
    params, batch_stats, lines = start.initialise(config, params, batch_stats, names, classes, mesh)
    for line in lines:
        say(line)
    averaged = config.optim.ema_decay is not None
    state = jax.jit(functools.partial(init_state, optimizer=optimizer, averaged=averaged))(params, batch_stats)
    return graphdef, jax.device_put(state, replicated(mesh))

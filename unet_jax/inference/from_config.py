"""What a config names, made: the cases, their classes, the network, and how the network segments."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Int
from ml_collections import ConfigDict
from tqdm import tqdm

from unet_jax import models
from unet_jax.data import cache, labels, phantom
from unet_jax.data.case import Case
from unet_jax.data.formats import sources
from unet_jax.data.labels import LabelMap
from unet_jax.errors import InputError
from unet_jax.inference.segment import Probability, segment_cases, with_flips
from unet_jax.metrics import cases as scoring
from unet_jax.run import checkpoint
from unet_jax.run import folder as run_folder
from unet_jax.runtime.mesh import by_batch, replicated
from unet_jax.training import step as steps

CHECKPOINTS = ("best", "newest")


def read_config(
    workdir: Path, *, flips: bool | None, tiles: bool | None, defaults: ConfigDict | None = None
) -> ConfigDict:
    """The run's config, with what `evaluate` and `predict` are told to do otherwise; None leaves a key as it is."""
    config = run_folder.read_config(workdir, defaults)
    chosen = {"tta": flips, "tiles": tiles}
    config.eval.update({key: value for key, value in chosen.items() if value is not None})
    return config


def take_cases_from(data: Path, config: ConfigDict) -> None:
    """Makes `config` read the cases in another folder, and says what lies there."""
    source, found = sources.guess(data)
    print(found, flush=True)
    config.data.update(source=source, root=str(data))


def load_cases(config: ConfigDict) -> tuple[list[Case], str, cache.Digests]:
    """The config's cases, their files' fingerprint and digests; the phantom is made first where it is asked for.

    Raises:
        InputError: anything is wrong with the data; every fault is listed.
    """
    root = Path(config.data.root)
    if config.data.source == "phantom":
        made = config.phantom
        phantom.write_once(root, seed=made.seed, patients=made.patients, size=made.size, slices=tuple(made.slices))
    reader = sources.reader(root, config.data.source, sources.settings(config.data.to_dict()))
    return cache.load(reader, root, Path(config.data.cache))


def load_classes(config: ConfigDict) -> LabelMap:
    """The classes that the config's masks tell apart: see `sources.classes`."""
    return sources.classes(Path(config.data.root), config.data.source, sources.settings(config.data.to_dict()))


def load_network(
    workdir: Path, config: ConfigDict, channels: int, mesh: Mesh
) -> tuple[Probability, checkpoint.Restored]:
    """The checkpoint that the config names as a function from images to probabilities, and which one it is.

    How many classes it tells apart is in the run's folder.

    Raises:
        InputError: there is no checkpoint, or it does not fit the config.
        DamageError: there are checkpoints, and none is whole.
    """
    sizes = {
        "in_channels": input_channels(config, channels),
        "num_classes": steps.logit_channels(labels.count(run_folder.read_classes(workdir))),
    }
    model = nnx.eval_shape(lambda: models.build(**sizes, rngs=nnx.Rngs(0), **config.model))
    graphdef, params, batch_stats = steps.split_model(model)
    like = checkpoint.on_devices({"params": params, "batch_stats": batch_stats}, replicated(mesh))
    restored = checkpoint.restore(workdir / run_folder.CHECKPOINTS, config.eval.checkpoint, {"model": like})
    if restored is None:
        raise InputError(f"{workdir} has no scored checkpoint yet: train it for at least one epoch.")
    network = restored.items["model"]
    probability = steps.make_probability_step(graphdef, image_size=config.data.image_size)
    return functools.partial(probability, network["params"], network["batch_stats"]), restored


def input_channels(config: ConfigDict, channels: int) -> int:
    """How many channels the network takes where images have `channels`."""
    return channels * (1 + 2 * _neighbours(config))


def _neighbours(config: ConfigDict) -> int:
    """Slices on either side of a slice; a run that is older than the key has none."""
    return config.data.get("neighbours", 0)


def segment(
    probability: Probability,
    config: ConfigDict,
    cases: list[Case],
    index: Int[np.ndarray, "n 2"],
    mesh: Mesh,
    title: str,
) -> Iterator[scoring.Predicted]:
    """`inference.segment_cases` as the config wants it, with a progress bar."""
    predicted = segment_cases(with_tta(probability, config), cases, index, **how_to_segment(config, mesh))
    return iter(tqdm(predicted, desc=title, total=len(set(index[:, 0])), unit="case", disable=None, leave=False))


def with_tta(probability: Probability, config: ConfigDict) -> Probability:
    """The function itself, or its mean over the flips of `tta_flips`."""
    flips = tta_flips(config)
    return with_flips(probability, flips) if flips else probability


def tta_flips(config: ConfigDict) -> list[str]:
    """What `inference.with_flips` averages over: if the config wants any, the flips that training has.

    A network that never saw heads upside down is wrong about them.
    """
    return [axis for axis in ("rows", "columns") if config.eval.tta and config.augment[f"flip_{axis}"] > 0]


def how_to_segment(config: ConfigDict, mesh: Mesh) -> dict[str, Any]:
    """The arguments that `evaluate` and `predict` give to `inference.segment_stream` alike."""
    return {
        "batch_size": config.train.batch_size,
        "slab": config.data.slab,
        "tile": config.data.image_size if config.eval.tiles else None,
        "neighbours": _neighbours(config),
        "threshold": config.eval.threshold,
        "sharding": by_batch(mesh),
    }

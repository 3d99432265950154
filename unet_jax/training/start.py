"""The weights that a run starts from: drawn, of a folder of PyTorch's weights, or of a run or a pack to be tuned."""

from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from unet_jax.data import regions
from unet_jax.data.formats import sources
from unet_jax.data.regions import Classes
from unet_jax.errors import InputError
from unet_jax.inference.network import image_channels, input_channels, load_network, output_channels, structure
from unet_jax.models import transfer
from unet_jax.models.pretrained import weights
from unet_jax.models.transfer import Interface
from unet_jax.run import folder as run_folder
from unet_jax.run import pack_file
from unet_jax.run.config import read_config
from unet_jax.run.manifest import named_leaves


def initialise(
    config: ConfigDict,
    params: dict,
    batch_stats: dict,
    channels: tuple[str, ...],
    classes: Classes,
    mesh: Mesh,
) -> tuple[dict, dict, list[str]]:
    """A network's (params, batch_stats) with what config.train.initial_weights has for it, and what to say of that.

    Args:
        config: of the run that begins.
        params: as they were drawn.
        batch_stats: as they were initialised.
        channels: what those of its images are called.
        classes: several; empty for one.
        mesh: the devices.

    Raises:
        InputError: the weights cannot be read, or nothing of them fits.
        DamageError: no checkpoint of the run is whole, or a pack is not what was packed.
    """
    given = config.train.initial_weights
    if not given:
        return params, batch_stats, []
    is_run = pack_file.is_packed(Path(given)) or (Path(given) / run_folder.CONFIG).exists()
    if not is_run:
        return *weights.initialise(params, batch_stats, Path(given)), []
    with pack_file.opened(Path(given)) as workdir:
        return _of_run(config, params, batch_stats, channels, classes, workdir, mesh)


def _of_run(
    config: ConfigDict,
    params: dict,
    batch_stats: dict,
    channels: tuple[str, ...],
    classes: Classes,
    workdir: Path,
    mesh: Mesh,
) -> tuple[dict, dict, list[str]]:
    theirs = read_config(workdir)
    _, restored = load_network(workdir, theirs, mesh)
    count = image_channels(workdir, theirs)
    names = run_folder.read_channel_names(workdir, theirs, count)
    there = _interface(theirs, names, run_folder.read_classes(workdir))
    here = _interface(config, channels, classes)

    def shapes(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        return {path: leaf.shape for path, leaf in named_leaves(structure(config, inputs, outputs)[1]).items()}

    sizes = input_channels(config, len(channels), classes), output_channels(classes)
    own = jax.device_get(named_leaves({"params": params, "batch_stats": batch_stats}))
    source = jax.device_get(named_leaves(restored.items["model"]))
    found = transfer.transfer(own, source, *transfer.changing_axes(shapes, *sizes), here, there)
    if not any(found.arrays[path].ndim > 1 for path in found.copied):
        raise InputError(
            f"config.train.initial_weights={config.train.initial_weights}: no kernel of that network "
            f"({theirs.model.name}) fits this one ({config.model.name}): give config.model what the run's config.json "
            "has, or another run."
        )
    model = _tree({"params": params, "batch_stats": batch_stats}, found.arrays)
    origin = f"{config.train.initial_weights}, step {restored.step}"
    return model["params"], model["batch_stats"], transfer.lines(found, origin)


def _interface(config: ConfigDict, channels: tuple[str, ...], classes: Classes) -> Interface:
    stacked = 1 + 2 * config.data.neighbours
    return Interface(_named(channels), tuple(classes), stacked, overlap=regions.overlap(classes))


def _named(channels: tuple[str, ...]) -> tuple[str, ...] | None:
    return None if channels == sources.unnamed(len(channels)) else channels


def _tree(like: dict, arrays: dict) -> dict:
    """The arrays in the form of the tree `like`."""
    leaves, form = jax.tree.flatten(like)
    return jax.tree.unflatten(form, [arrays[path] for path, _ in zip(named_leaves(like), leaves, strict=True)])

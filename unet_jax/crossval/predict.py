"""Segments images with all folds of a cross-validation together: the mean of their probabilities."""

import sys
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.crossval import crossval, folds
from unet_jax.files import read_json
from unet_jax.inference import postprocess, prediction_task
from unet_jax.inference import predict as prediction
from unet_jax.inference.averaged import averaged
from unet_jax.inference.network import load_network
from unet_jax.inference.segment import segment_stream
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.writers import tables
from unet_jax.run import checkpoint
from unet_jax.run import folder as run_folder
from unet_jax.run.config import read_config
from unet_jax.runtime import compilation_cache
from unet_jax.runtime.mesh import data_mesh
from unet_jax.runtime.out_of_memory import explained


def predict(
    workdir: Path,
    source: Path,
    output: Path,
    *,
    overwrite: bool = False,
    probabilities: bool = False,
    overlays: bool = False,
    flips: bool | None = None,
    tiles: bool | None = None,
) -> list[tables.Row]:
    """Does what `inference.predict` does, with the folds in `workdir` that are trained and scored.

    Threshold and minimum size are those that all folds together have chosen, if they were to choose.

    Args:
        workdir: the folder of a cross-validation; nothing is written there.
        source: as of `inference.predict`, like all that follow.
        output: see there.
        overwrite: see there.
        probabilities: see there.
        overlays: see there.
        flips: see there.
        tiles: see there.

    Raises:
        InputError: the folder holds no scored fold, and as `inference.predict` raises it, like the other errors.
    """
    found = folds.read(workdir)
    config = _config(workdir, found[0].folder, flips, tiles)
    task = prediction_task.plan(
        found[0].folder, config, source, output, overwrite=overwrite, probabilities=probabilities, overlays=overlays
    )
    with explained(config):
        compilation_cache.use(config.train.compilation_cache)
        mesh = data_mesh()
        networks = []
        for fold in found:
            network, restored = load_network(fold.folder, read_config(fold.folder), mesh)
            for line in checkpoint.warnings(fold.folder / run_folder.CHECKPOINTS, restored):
                print(f"warning: {line}", file=sys.stderr, flush=True)
            networks.append(network)
        print(f"{workdir}: the mean of {len(networks)} of {found[0].config['data.folds']} folds.", flush=True)
        settings = SegmentSettings.of_run(found[0].folder, config, mesh)
        together = averaged(networks)
        return prediction.write_cases(
            task,
            lambda wanted: segment_stream(together, wanted, settings, keep_probabilities=task.probabilities),
            lambda mask: postprocess.apply(mask, settings.postprocess),
        )


def _config(workdir: Path, fold: Path, flips: bool | None, tiles: bool | None) -> ConfigDict:
    """Of the folds, with what they have chosen together."""
    config = read_config(fold, flips=flips, tiles=tiles)
    results = workdir / crossval.RESULTS
    chosen = read_json(results).get(crossval.CHOSEN) if results.exists() else None
    if config.eval.choose and chosen is not None:
        config.eval.threshold = chosen["threshold"]
        config.eval.postprocess.minimum_voxels = chosen["minimum_voxels"]
    return config

"""Predicts with what was chosen: folds and configurations averaged, a cascade's first stage first, then cleaned."""

from collections.abc import Iterator
from pathlib import Path

from unet_jax.auto import best as best_file
from unet_jax.auto import members, runs
from unet_jax.errors import InputError
from unet_jax.inference import components
from unet_jax.inference import predict as prediction
from unet_jax.inference.windows import Segmented, Wanted
from unet_jax.inference.writers import tables
from unet_jax.plan import plan_file
from unet_jax.run.config import read_config
from unet_jax.runtime import compilation_cache
from unet_jax.runtime.mesh import prediction_mesh
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
    """Writes a mask for every image under `source`, as `inference.predict.predict`, whose arguments these are.

    Args:
        workdir: with the choice.
        source: images.
        output: the folder for masks and tables.
        overwrite: whether files there are replaced.
        probabilities: also writes them; they are those before post-processing.
        overlays: also writes PNGs with outlines.
        flips: takes the place of the runs' config.eval.tta.
        tiles: takes the place of the runs' config.eval.tiles.

    Returns:
        the rows of cases.csv.

    Raises:
        InputError: nothing is chosen yet; or as there.
        RunError: as there.
    """
    if not (workdir / best_file.NAME).exists():
        raise InputError(
            f"{workdir}: nothing is chosen yet: run the command that trains it until all runs are done, or predict "
            f"with one of its runs, such as --workdir={runs.begun(workdir)[0].folder}."
        )
    best = best_file.read(workdir)
    plans = plan_file.read_plans(workdir / plan_file.NAME)
    first = runs.folder_of(workdir, best.configurations[0], best.folds[0])
    config = read_config(first, flips=flips, tiles=tiles)
    task = prediction.plan(
        first, config, source, output, overwrite=overwrite, probabilities=probabilities, overlays=overlays
    )
    with explained(config):
        compilation_cache.use(config.train.compilation_cache)
        mesh = prediction_mesh(config.train.spatial)
        loaded = members.load(workdir, plans, best.configurations, best.folds, mesh, flips=flips, tiles=tiles)
        keep = probabilities or len(best.configurations) > 1

        def segment(wanted: Iterator[Wanted]) -> Iterator[Segmented]:
            for found in members.segment(loaded, wanted, keep_probabilities=keep):
                yield members.together(found, best.configurations, config.eval.threshold, loaded[0].settings.painted)

        return prediction.write_cases(task, segment, lambda mask: components.apply(mask, best.postprocessing))

"""What was chosen as one file: folds and configurations averaged, with all that is done to a case before and after."""

from pathlib import Path

import numpy as np

from unet_jax.auto import best as best_file
from unet_jax.auto import members, runs
from unet_jax.errors import InputError
from unet_jax.export import volumes
from unet_jax.export.classes import describe
from unet_jax.export.export import check_output
from unet_jax.export.whole_case import Part
from unet_jax.inference.network import image_channels
from unet_jax.inference.windows import Wanted
from unet_jax.plan import plan_file
from unet_jax.run import folder as run_folder
from unet_jax.run.config import read_config
from unet_jax.runtime import compilation_cache
from unet_jax.runtime.mesh import prediction_mesh
from unet_jax.runtime.out_of_memory import explained


def export(
    workdir: Path,
    output: Path,
    *,
    data: Path | None = None,
    overwrite: bool = False,
    shape: tuple[int, int, int] | None = None,
    spacing: tuple[float, float, float] | None = None,
) -> dict:
    """Writes what was chosen as a program; post-processing is left to whoever runs it.

    Args:
        workdir: with the choice.
        output: as in `export.export.export`.
        data: as there, and so are all others.
        overwrite: whether to replace `output`.
        shape: of cases.
        spacing: of cases.

    Returns:
        the facts in the file.

    Raises:
        InputError: nothing is chosen yet, or the second network of a cascade was; or as there.
        RunError: as there.
    """
    check_output(output, overwrite=overwrite)
    if not (workdir / best_file.NAME).exists():
        raise InputError(
            f"{workdir}: nothing is chosen yet: run the command that trains it until all runs are done, or export one "
            f"of its runs, such as --workdir={runs.begun(workdir)[0].folder}."
        )
    best, plans = best_file.read(workdir), plan_file.read_plans(workdir / plan_file.NAME)
    for name in best.configurations:
        if plans.configurations[name].previous_stage:
            raise InputError(f"{name}, which was chosen, is {volumes.CASCADE}")
    first = runs.folder_of(workdir, best.configurations[0], best.folds[0])
    config = read_config(first)
    with explained(config):
        compilation_cache.use(config.train.compilation_cache)
        case = volumes.case_to_try(config, image_channels(first, config), data, shape, spacing)
        loaded = members.load(workdir, plans, best.configurations, best.folds, prediction_mesh(None))
        facts = {
            "run": workdir.resolve().name,
            "configurations": list(best.configurations),
            "folds": list(best.folds),
            "channels": list(run_folder.read_channel_names(first, config, case.image.shape[-1])),
            **describe(run_folder.read_classes(first)),
            "postprocess": [list(step) for step in best.postprocessing],
        }
        wanted = Wanted(0, case, np.arange(len(case.image)))
        [found] = members.segment(loaded, [wanted], keep_probabilities=True)
        expected = members.together(found, best.configurations, config.eval.threshold, loaded[0].settings.painted)
        parts = [Part(member.network, member.settings) for member in loaded]
        return volumes.write(output, parts, expected, facts, config.data.axes)

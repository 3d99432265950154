"""A cascade's first stage, once its folds are trained: the masks that the second network is trained with.

Each training case is segmented by the fold that was not trained on it, and its logits are resampled to the second
network's grid, as nnU-Net does when it validates: see `plan.cascade.from_logits`, with its one oddity.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from tqdm import tqdm

from unet_jax.auto.runs import Run
from unet_jax.data import splits
from unet_jax.data.load import DataSet
from unet_jax.files import json_digest, read_json
from unet_jax.inference import segment
from unet_jax.inference.network import load_network
from unet_jax.inference.settings import SegmentSettings
from unet_jax.plan import cascade, previous_masks
from unet_jax.plan.plans import Plans
from unet_jax.plan.prepared_data import prepare_cases
from unet_jax.plan.preprocess import spacing_of
from unet_jax.plan.resample import new_shape
from unet_jax.run import folder as run_folder
from unet_jax.run.config import read_config
from unet_jax.runtime import exchange
from unet_jax.runtime.mesh import prediction_mesh

FOLDER = "next_stage"


def folder_of(workdir: Path, first: str, second: str) -> Path:
    """Where the masks of all folds lie, a folder each; what a cascade's config.plan.previous names."""
    return workdir / first / FOLDER / second


def write_masks(workdir: Path, runs: Sequence[Run], second: str, plans: Plans, data: DataSet) -> None:
    """Makes the masks of the folds that have none yet of the networks that are there now.

    Args:
        workdir: the folder of all configurations.
        runs: every fold of the first stage, done.
        second: the configuration that is given the masks.
        plans: of both.
        data: that is trained on.

    Raises:
        InputError: a run cannot be used.
        DamageError: a run's checkpoints are damaged.
        StorageError: the disk is full, read-only or failing.
    """
    for run in runs:
        folder = folder_of(workdir, run.configuration, second) / f"fold{run.fold}"
        origin = json_digest([read_json(run.folder / run_folder.CONFIG), run.checkpoint_step])
        # Of several machines, one makes them; the others wait, and find them.
        with run_folder.lock_run(run.folder, wait=True):
            exchange.done_by_primary(functools.partial(_write_of_fold, folder, origin, run, second, plans, data))


def _write_of_fold(folder: Path, origin: str, run: Run, second: str, plans: Plans, data: DataSet) -> None:
    if not previous_masks.is_there(folder, origin):
        previous_masks.write(folder, _masks(run, second, plans, data), origin)


def _masks(run: Run, second: str, plans: Plans, data: DataSet) -> Iterator[tuple[str, Integer[np.ndarray, "d h w"]]]:
    config = read_config(run.folder)
    split = splits.read(run.folder / run_folder.SPLIT, data.cases, data.unit)
    positions = np.unique(splits.slices_of(split, data.cases, "test")[:, 0]).tolist()
    mesh = prediction_mesh(config.train.spatial)
    network, _ = load_network(run.folder, config, mesh)
    settings = SegmentSettings.of_run(run.folder, config, mesh)
    plan = settings.plan
    cases = prepare_cases(config, data, plan, positions).values()
    target = plans.configurations[second]
    for case in tqdm(cases, f"masks of {run.name}", unit="case", disable=None, leave=False):
        shape = new_shape(case.geometry.cropped, case.geometry.spacing, spacing_of(target, case.geometry))
        logits = segment.whole_logits(network, case.image, settings)
        yield case.name, cascade.from_logits(logits, shape, plan.configuration, plan.dataset)

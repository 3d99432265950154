"""Segments images without masks: writes masks in the images' own format and place, and tables of what was found."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from unet_jax.data import scale
from unet_jax.data.faults import FULL_LIST, summary
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.names import shown
from unet_jax.data.scale import Measured
from unet_jax.errors import InputError
from unet_jax.files import sweep, write_bytes
from unet_jax.inference import postprocess
from unet_jax.inference.network import load_network
from unet_jax.inference.prediction_task import Task, plan, planned
from unet_jax.inference.segment import segment_stream
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.windows import Segmented, Wanted
from unet_jax.inference.writers import overlays as overlay_files
from unet_jax.inference.writers import picture_masks, tables
from unet_jax.run import checkpoint
from unet_jax.run import folder as run_folder
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
    """Writes a mask for every image under `source`, the same to the bit that `evaluate` scores.

    Args:
        workdir: the run's folder; nothing is written there.
        source: a picture, a volume or a DICOM file, or a folder of one of these; masks among them are passed over.
        output: the folder for masks and tables; made if missing.
        overwrite: whether files there are replaced; else, if there is one, nothing is computed.
        probabilities: also writes them.
        overlays: also writes PNGs with outlines.
        flips: takes the place of the run's config.eval.tta.
        tiles: takes the place of the run's config.eval.tiles.

    Returns:
        the rows of cases.csv.

    Raises:
        InputError: the folder holds no run, the input or output cannot be used, or some cases could not be segmented:
            all others are written then, and each of these is named.
        DamageError: the run's checkpoints are damaged.
        OutOfMemoryError: the device or the host has too little memory for the config.
        StorageError: the disk is full, read-only or failing; each file there is an old or a new one, whole.
    """
    config = read_config(workdir, flips=flips, tiles=tiles)
    task = plan(workdir, config, source, output, overwrite=overwrite, probabilities=probabilities, overlays=overlays)
    with explained(config):
        compilation_cache.use(config.train.compilation_cache)
        mesh = prediction_mesh(config.train.spatial)
        probability, restored = load_network(workdir, config, mesh)
        for line in checkpoint.warnings(workdir / run_folder.CHECKPOINTS, restored):
            print(f"warning: {line}", file=sys.stderr, flush=True)
        settings = SegmentSettings.of_run(workdir, config, mesh)
        return write_cases(
            task,
            lambda wanted: segment_stream(probability, wanted, settings, keep_probabilities=task.probabilities),
            lambda mask: postprocess.apply(mask, settings.postprocess),
        )


def write_cases(
    task: Task,
    segment: Callable[[Iterator[Wanted]], Iterator[Segmented]],
    finish: Callable[[UInt8[np.ndarray, "d h w"]], UInt8[np.ndarray, "d h w"]],
) -> list[tables.Row]:
    """Segments all cases of a task and writes what belongs to them.

    Args:
        task: what is read and written.
        segment: as `segment_stream`, with probabilities if the task wants them.
        finish: the post-processing of a mask.

    Returns:
        the rows of cases.csv.

    Raises:
        InputError: some cases could not be segmented: all others are written, and each of these is named.
        StorageError: the disk is full, read-only or failing.
    """
    faults: list[str] = []
    measured: list[Measured] = []
    rows, slices, written = [], 0, 0
    began = time.perf_counter()
    sweep(task.output / path for path in planned(task))
    with (
        tables.Tables(task.output) as both,
        tqdm(desc="predicting", total=len(task.listing), unit="case", disable=None, leave=False) as bar,
    ):
        for done in segment(_decoded(task, faults, measured)):
            try:
                of_case, areas = _write(task, done, finish(done.mask))
                both.add(of_case, areas)
                rows += of_case
                slices += len(done.mask)
                written += 1
            except InputError as error:
                faults.append(str(error))
            bar.update(written + len(faults) - bar.n)
    seconds = time.perf_counter() - began
    for line in scale.warnings(task.scale, measured, task.channel_names):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    if rows:
        print(
            f"{written} cases, {slices} slices in {seconds:.1f} s, "
            f"{seconds / written:.2f} s a case: masks, "
            f"{tables.CASES} and {tables.SLICES} are in {task.output}.",
            flush=True,
        )
    if faults:
        rest = "all others are written" if rows else "there were no others"
        lines = summary("\n".join(faults).splitlines(), task.output / FULL_LIST)
        raise InputError(f"{len(faults)} of {len(task.listing)} cases have no mask; {rest}:\n{lines}")
    return rows


def _decoded(task: Task, faults: list[str], measured: list[Measured]) -> Iterator[Wanted]:
    """Reads case after case; what is wrong with one goes to `faults`, and its intensities to `measured`."""
    for position, files in enumerate(task.listing):
        try:
            case = task.reader.decode(files, lambda path: read_file(task.root, path))
            found = case.image.shape[-1]
            if found != task.channels:
                raise InputError(
                    f"{shown(files.name)}: has {found} channels, and the network was trained on {task.channels}: give "
                    "it images of the same kind."
                )
        except InputError as error:
            faults.append(str(error))
            continue
        if task.scale is not None:
            measured.append(scale.measure(case.name, case.image))
        yield Wanted(position, case, np.arange(len(case.image)))


def _write(task: Task, done: Segmented, mask: UInt8[np.ndarray, "d h w"]) -> tuple[list[tables.Row], list[tables.Row]]:
    """Writes what belongs to a case, and returns its rows of the tables."""
    files, case = task.listing[done.wanted.position], done.wanted.case
    # Their folder is not listed for each of them: that was done for all.
    for path, data in task.encode(files, task.root, mask, done.probability, task.classes):
        write_bytes(task.output / path, data, swept=True)
    if task.overlays:
        for path, data in overlay_files.encode(files, case, mask, task.shown, task.classes):
            write_bytes(task.output / path, data, swept=path == overlay_files.plan(files))
    # A stack of slices is one file.
    images = files.first_channels
    images = images if task.writer is picture_masks and len(images) == len(mask) else ()
    return tables.measure_classes(case, mask, task.classes, images)

"""Segments images without masks: writes masks in the images' own format and place, and tables of what was found."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from unet_jax.inference import ensemble, postprocess
from unet_jax.inference.prediction_task import Task, plan, planned, stale
from unet_jax.inference.segment import segment_stream
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.windows import Segmented, Wanted
from unet_jax.inference.writers import overlays as overlay_files
from unet_jax.inference.writers import picture_masks, tables
from unet_jax.runtime import compilation_cache, exchange
from unet_jax.runtime.mesh import prediction_mesh
from unet_jax.runtime.out_of_memory import explained
from unet_jax.wording import count


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
        workdir: the run's folder; nothing is written there. Of the folder of a cross-validation, the mean over the
            networks of its folds predicts.
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
    runs = ensemble.find(workdir, flips=flips, tiles=tiles)
    config = runs.config
    task = plan(runs.first, config, source, output, overwrite=overwrite, probabilities=probabilities, overlays=overlays)
    with explained(config):
        compilation_cache.use(config.train.compilation_cache)
        mesh = prediction_mesh(config.train.spatial)
        probability, _, warnings = ensemble.load(runs, mesh)
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr, flush=True)
        settings = SegmentSettings.of_run(runs.first, config, mesh)
        return write_cases(
            task,
            lambda wanted: segment_stream(probability, wanted, settings, keep_probabilities=task.probabilities),
            lambda mask: postprocess.apply(mask, settings.postprocess, task.classes),
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
    found = _Found()
    began = time.perf_counter()
    exchange.primary_first(lambda: sweep(task.output / path for path in planned(task)))
    with tables.Tables(task.output) as both:
        _write_own(task, segment, finish, found, both)
        found = _of_all_processes(found)
        if exchange.count() > 1 and exchange.index() == 0:
            for position, rows in found.rows.items():
                both.add(rows, found.areas[position])
    seconds, written = time.perf_counter() - began, len(found.rows)
    if exchange.index() == 0:
        for line in scale.warnings(task.scale, list(found.measured.values()), task.channel_names):
            print(f"warning: {line}", file=sys.stderr, flush=True)
        if written:
            print(
                f"{count(written, 'case')}, {count(sum(found.slices.values()), 'slice')} in {seconds:.1f} s, "
                f"{seconds / written:.2f} s a case: masks, {tables.CASES} and {tables.SLICES} are in {task.output}.",
                flush=True,
            )
    exchange.barrier()
    if found.faults:
        rest = "all others are written" if written else "there were no others"
        lines = summary("\n".join(found.faults.values()).splitlines(), task.output / FULL_LIST)
        of_all = f"{len(found.faults):,} of {count(len(task.listing), 'case')}"
        raise InputError(f"{of_all} {'has' if len(found.faults) == 1 else 'have'} no mask; {rest}:\n{lines}")
    return [row for of_case in found.rows.values() for row in of_case]


@dataclasses.dataclass(frozen=True)
class _Found:
    """What is known of cases, by their position in the listing.

    Attributes:
        rows: of cases.csv, of each case that is written.
        areas: of slices.csv, where another process writes them.
        slices: how many each has.
        faults: what is wrong with the others.
        measured: the intensities of each that could be read.
    """

    rows: dict[int, list[tables.Row]] = dataclasses.field(default_factory=dict)
    areas: dict[int, list[tables.Row]] = dataclasses.field(default_factory=dict)
    slices: dict[int, int] = dataclasses.field(default_factory=dict)
    faults: dict[int, str] = dataclasses.field(default_factory=dict)
    measured: dict[int, Measured] = dataclasses.field(default_factory=dict)


def _write_own(
    task: Task,
    segment: Callable[[Iterator[Wanted]], Iterator[Segmented]],
    finish: Callable[[UInt8[np.ndarray, "d h w"]], UInt8[np.ndarray, "d h w"]],
    found: _Found,
    both: tables.Tables,
) -> None:
    """Segments and writes this process's cases; a process by itself also adds them to `both` tables at once."""
    own = exchange.share_of([len(files.images) for files in task.listing])
    with tqdm(desc="predicting", total=len(own), unit="case", disable=None, leave=False) as bar:
        for done in segment(_decoded(task, own, found)):
            position = done.wanted.position
            try:
                rows, areas = _write(task, done, finish(done.mask))
                if exchange.count() == 1:
                    both.add(rows, areas)
                else:
                    found.areas[position] = areas
                found.rows[position], found.slices[position] = rows, len(done.mask)
            except InputError as error:
                found.faults[position] = str(error)
            bar.update(len(found.rows) + len(found.faults) - bar.n)
            del done  # a volume is not held while the next one is read


def _of_all_processes(found: _Found) -> _Found:
    """What all processes found, in the order of the listing."""
    measured = {position: dataclasses.astuple(one) for position, one in found.measured.items()}
    parts = exchange.gather_json([found.rows, found.areas, found.slices, found.faults, measured])
    rows, areas, slices, faults, intensities = (
        dict(sorted((int(position), each) for part in of_kind for position, each in part.items()))
        for of_kind in zip(*parts, strict=True)
    )
    return _Found(rows, areas, slices, faults, {position: Measured(*one) for position, one in intensities.items()})


def _decoded(task: Task, own: Sequence[int], found: _Found) -> Iterator[Wanted]:
    """Reads this process's cases, one after the other."""
    for position in own:
        files = task.listing[position]
        try:
            case = task.reader.decode(files, lambda path: read_file(task.root, path))
            channels = case.image.shape[-1]
            if channels != task.channels:
                raise InputError(
                    f"{shown(files.name)}: has {count(channels, 'channel')}, and the network was trained on "
                    f"{task.channels}: give it images of the same kind."
                )
        except InputError as error:
            found.faults[position] = str(error)
            continue
        if task.scale is not None:
            found.measured[position] = scale.measure(case.name, case.image)
        yield Wanted(position, case, np.arange(len(case.image)))
        del case


def _write(task: Task, done: Segmented, mask: UInt8[np.ndarray, "d h w"]) -> tuple[list[tables.Row], list[tables.Row]]:
    """Writes what belongs to a case, and returns its rows of the tables; what is of an older mask is removed."""
    files, case = task.listing[done.wanted.position], done.wanted.case
    for path in stale(task, files):
        _remove(task.output / path)
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


def _remove(path: Path) -> None:
    """Removes a file, or the pictures of a folder of overlays; what else lies there stays."""
    pictures = [each for each in path.glob("*.png") if each.stem.isdigit()] if path.is_dir() else [path]
    for picture in pictures:
        picture.unlink(missing_ok=True)
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()

"""Scores a run on one side of its split, from the run's folder alone."""

import dataclasses
import sys
import time
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.data import leaks, load, regions, scale, splits
from unet_jax.data.labels import LabelMap, written
from unet_jax.data.load import DataSet
from unet_jax.data.slices import all_slices
from unet_jax.data.splits import Split
from unet_jax.errors import InputError
from unet_jax.evaluation import observers
from unet_jax.evaluation.scored import score_slices
from unet_jax.files import read_json
from unet_jax.inference.network import load_network
from unet_jax.inference.settings import SegmentSettings, keeps_scale
from unet_jax.metrics.summary import effects, summarise
from unet_jax.report import evaluation_files
from unet_jax.run import checkpoint, history, resume
from unet_jax.run import folder as run_folder
from unet_jax.run.checkpoint import Restored
from unet_jax.run.config import read_config
from unet_jax.runtime import compilation_cache, exchange
from unet_jax.runtime.mesh import is_primary, prediction_mesh
from unet_jax.runtime.out_of_memory import explained

SIDES = ("train", "val", "test", "all")


def evaluate(
    workdir: Path,
    *,
    side: str = "test",
    data: Path | None = None,
    output: Path | None = None,
    flips: bool | None = None,
    tiles: bool | None = None,
) -> dict:
    """Scores the checkpoint that the config names; writes it down, with pictures and a page; prints a table.

    Args:
        workdir: the run's folder.
        side: "train", "val", "test", or "all" for every case there is.
        data: where the run's data are now, if they were moved; with side "all", a folder of any cases.
        output: the folder for the scores, if not `<workdir>/evaluation/<side>`; nothing is written to `workdir` then.
        flips: takes the place of the run's config.eval.tta.
        tiles: takes the place of the run's config.eval.tiles.

    Returns:
        what metrics.json holds.

    Raises:
        InputError: the folder holds no run, the data are not those it was trained on, or an argument is out of range.
        BusyError: another process trains or scores in `workdir`, or writes to `output`.
        OutOfMemoryError: the device or the host has too little memory for the config.
        StorageError: the disk is full, read-only or failing.
    """
    if side not in SIDES:
        raise InputError(f"--split is {side!r}; it must be one of {', '.join(SIDES)}.")
    config = read_config(workdir, flips=flips, tiles=tiles)
    elsewhere = data if side == "all" else None
    if elsewhere is not None:
        load.take_cases_from(elsewhere, config)
    elif data is not None:
        config.data.root = str(data)
    with run_folder.lock_run(output or workdir), explained(config):
        if side != "all" and not (workdir / run_folder.SPLIT).exists():
            raise InputError(
                f"{workdir} has no {run_folder.SPLIT}: a pack has it with --case_names alone. Score all cases of a "
                "folder with --split=all --data=DIR."
            )
        run_folder.check_data(config)
        found = load.load(config)
        if side != "all":
            split = splits.read(workdir / run_folder.SPLIT, found.cases, found.unit)
            leaks.check_leaks(split, found.cases, found.listing, found.digests)
        return score(workdir, config, found, side=side, elsewhere=elsewhere, output=output)


def score(
    workdir: Path,
    config: ConfigDict,
    data: DataSet,
    *,
    side: str = "test",
    elsewhere: Path | None = None,
    output: Path | None = None,
) -> dict:
    """Does what `evaluate` does, for a caller that holds the lock and has the run's config and data.

    Args:
        workdir: the run's folder.
        config: the run's.
        data: the run's, or, with `elsewhere`, others.
        side: see `evaluate`.
        elsewhere: the folder of other cases.
        output: see `evaluate`.
    """
    folder = output or workdir / run_folder.EVALUATION / side
    classes = _classes_of_both(workdir, config, data)
    notes = resume.check_files(workdir, data) if elsewhere is None else _on_another_scale(workdir, config, data)
    split = None if elsewhere is not None else splits.read(workdir / run_folder.SPLIT, data.cases, data.unit)
    index = all_slices(data.cases) if side == "all" else splits.slices_of(split, data.cases, side)

    compilation_cache.use(config.train.compilation_cache)
    mesh = prediction_mesh(config.train.spatial)
    probability, restored = load_network(workdir, config, mesh)
    exchange.agree(
        resume.identity(workdir, config, data, split) | {"the checkpoint": restored.step, "the side": side},
        resume.ALIKE,
    )
    if split is not None:
        resume.check_record(restored, resume.trained_on(data, split))
    warnings = _warnings(workdir, config, restored, notes)
    if is_primary():
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr, flush=True)
    settings = SegmentSettings.of_run(workdir, config, mesh)
    began = time.perf_counter()
    title = f"scoring {side}"
    stages, masks = score_slices(probability, config, data, index, settings, classes, title=title)
    seconds = time.perf_counter() - began

    final = next(reversed(stages))
    if config.eval.second_masks:
        try:
            compared = observers.compared(stages[final].rows, data, masks, config)
            stages[final] = dataclasses.replace(stages[final], rows=compared)
        except InputError as error:
            if elsewhere is None:
                raise
            warnings.append(f"not compared with a second observer: {error}")
    summaries = {stage: summarise(scores.rows, scores.counts) for stage, scores in stages.items()}
    rows = stages[final].rows
    summary = {
        "split": side,
        "split_by": _label(split, side, elsewhere, workdir, data),
        "unit": data.unit,
        "checkpoint": config.eval.checkpoint if restored.as_wanted else "last good",
        "checkpoint_step": restored.step,
        "damaged_checkpoints": [{"step": step, "faults": faults} for step, faults in restored.damaged.items()],
        "data_fingerprint": data.fingerprint,
        "threshold": None if classes else config.eval.threshold,
        "minimum_voxels": config.eval.postprocess.minimum_voxels,
        "tta": config.eval.tta,
        "tiles": config.eval.tiles,
        "surface_tolerance": config.eval.surface_tolerance,
        **summaries[final],
        "postprocess": effects(summaries),
        "seconds_per_case": seconds / len(rows),
    }
    if is_primary():
        evaluation_files.write(folder, workdir, config, data, masks, summary, rows)
        evaluation_files.show(folder, summary, warnings)
    exchange.barrier()  # what was written is there for all
    return summary


def _warnings(workdir: Path, config: ConfigDict, restored: Restored, notes: list[str]) -> list[str]:
    """What a reader of the scores must know, `notes` on the data included."""
    lines = checkpoint.warnings(workdir / run_folder.CHECKPOINTS, restored) + notes
    epochs = len(history.epochs_of(history.read(workdir)))
    if epochs < restored.record.get("epochs", 0):
        lines.append(
            f"{run_folder.HISTORY} has {epochs} of the {restored.record['epochs']} epochs before this checkpoint."
        )
    if config.eval.choose_threshold and not (workdir / run_folder.THRESHOLD).exists():
        lines.append(f"the run has not chosen a threshold yet: {config.eval.threshold} is used.")
    return lines


def _on_another_scale(workdir: Path, config: ConfigDict, data: DataSet) -> list[str]:
    trained = run_folder.read_scale(workdir, config, keeps_scale(workdir, config, data.channels))
    if trained is None or len(trained.channels) != data.channels:
        return []
    measured = [scale.measure(case.name, case.image) for case in data.cases]
    return scale.warnings(trained, measured, data.channel_names)


def _classes_of_both(workdir: Path, config: ConfigDict, data: DataSet) -> LabelMap:
    """The classes of run and data, which must be the same but for the values in the files; empty for one class."""
    of_run, of_data = run_folder.read_classes(workdir), data.classes
    if (tuple(of_run), regions.members(of_run)) != (tuple(of_data), regions.members(of_data)):
        run, found = (_listed(classes) or "one class" for classes in (of_run, of_data))
        raise InputError(
            f"{config.data.root}: its masks have {found}, and {workdir} was trained on {run}: the classes must be the "
            "same, in the same order: correct dataset.json, or the masks."
        )
    return of_run


def _listed(classes: LabelMap) -> str:
    if not regions.overlap(classes):
        return ", ".join(classes)
    return ", ".join(f"{name}={'+'.join(map(written, values))}" for name, values in classes.items())


def _label(split: Split | None, side: str, elsewhere: Path | None, workdir: Path, data: DataSet) -> str:
    """What a reader of the scores must know of the split."""
    if split is None:
        # A pack without its split does not say on which side they are.
        whose = "training cases" if (workdir / run_folder.SPLIT).exists() else "cases of the run's data"
        return f"every case of {elsewhere}" + (f", {whose} included" if _trained_on(workdir, data) else "")
    return "training cases included" if side == "all" else split.label


def _trained_on(workdir: Path, data: DataSet) -> list[str]:
    """The cases whose images, by their content, are files of the run's data, and that are not of its test side."""
    known = {digest for _, digest in (resume.read_files(workdir) or {}).values()}
    path = workdir / run_folder.SPLIT
    found = read_json(path) if path.exists() else {}
    by_patient = found.get("split_by") == "patient"
    tested = {name for names in found["test"].values() for name in names} if by_patient else ()
    return [
        files.name
        for files in data.listing
        if files.images and files.name not in tested and all(data.digests[path][1] in known for path in files.images)
    ]

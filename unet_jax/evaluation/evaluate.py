"""Scores a run on one side of its split, from the run's folder alone."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt8
from ml_collections import ConfigDict

from unet_jax import metrics
from unet_jax.data import labels, splits
from unet_jax.data.case import Case
from unet_jax.errors import InputError
from unet_jax.inference import postprocess
from unet_jax.inference.from_config import load_cases, load_classes, load_network, read_config, segment, take_cases_from
from unet_jax.metrics import cases as scoring
from unet_jax.report import case_view, packed_masks, pictures
from unet_jax.report import page as report_page
from unet_jax.report import scores as report
from unet_jax.report.packed_masks import PackedMask
from unet_jax.run import checkpoint
from unet_jax.run import folder as run_folder
from unet_jax.run import resume as identity
from unet_jax.runtime import compilation_cache, lock
from unet_jax.runtime.mesh import data_mesh, is_primary
from unet_jax.runtime.out_of_memory import explained

SIDES = ("train", "val", "test", "all")
LGG_SOURCES, LGG_SEQUENCES = ("lgg", "phantom", "tfds"), ("pre-contrast", "FLAIR", "post-contrast")
FLAIR = 1


def evaluate(
    workdir: Path,
    *,
    side: str = "test",
    data: Path | None = None,
    flips: bool | None = None,
    tiles: bool | None = None,
    defaults: ConfigDict | None = None,
) -> dict:
    """Scores the checkpoint that the config names; writes it down, with pictures and a page; prints a table.

    Args:
        workdir: the run's folder.
        side: "train", "val", "test", or "all" for every case there is.
        data: another folder of cases than the one the run was trained on; it needs side "all".
        flips: takes the place of the run's config.eval.tta.
        tiles: takes the place of the run's config.eval.tiles.
        defaults: the program's own config: see `run_folder.read_config`.

    Returns:
        what metrics.json holds.

    Raises:
        InputError: the folder holds no run, the data are not those it was trained on, or an argument is out of range.
        BusyError: another process trains or scores in `workdir`.
        OutOfMemoryError: the device or the host has too little memory for the config.
        StorageError: the disk is full, read-only or failing.
    """
    if side not in SIDES:
        raise InputError(f"--split is {side!r}; it must be one of {', '.join(SIDES)}.")
    if data is not None and side != "all":
        raise InputError(f"--data needs --split=all; --split is {side!r}, a side of the run's own data.")
    config = read_config(workdir, flips=flips, tiles=tiles, defaults=defaults)
    if data is not None:
        take_cases_from(data, config)
    run_folder.check_phantom(workdir, config)
    with held(workdir), explained(config):
        return score(workdir, config, side=side, data=data)


def held(workdir: Path, *, wait: bool = False) -> contextlib.AbstractContextManager[None]:
    """The lock on a run's folder, for the process that writes there; nothing in it may lead elsewhere."""
    if not is_primary():
        return contextlib.nullcontext()
    run_folder.check_links(workdir)
    return lock.lock_folder(workdir, wait=wait)


def score(workdir: Path, config: ConfigDict, *, side: str = "test", data: Path | None = None) -> dict:
    """`evaluate` for who holds the folder and has its config."""
    classes = _classes_of_both(workdir, config)
    cases, fingerprint, digests = load_cases(config)
    note = None if data is not None else identity.check_files(workdir, fingerprint, digests)
    index, label = _slices_to_score(workdir, cases, side, data)

    compilation_cache.use(config.train.compilation_cache)
    mesh = data_mesh()
    probability, restored = load_network(workdir, config, cases[0].image.shape[-1], mesh)
    warnings = checkpoint.warnings(workdir / run_folder.CHECKPOINTS, restored) + ([note] if note else [])
    if is_primary():
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr, flush=True)
    began = time.perf_counter()
    kept: dict[int, PackedMask] = {}
    predicted = packed_masks.keep(segment(probability, config, cases, index, mesh, title=f"scoring {side}"), kept)
    how = {"tolerance": config.eval.surface_tolerance, "steps": config.eval.postprocess.to_dict()}
    stages = scoring.score_cases(cases, predicted, **how, classes=classes)
    seconds = time.perf_counter() - began

    summaries = {stage: report.summarise(scores.rows, scores.counts) for stage, scores in stages.items()}
    final = next(reversed(stages))
    rows = stages[final].rows
    summary = {
        "split": side,
        "split_by": label,
        "checkpoint": config.eval.checkpoint if restored.as_wanted else "last good",
        "checkpoint_step": restored.step,
        "damaged_checkpoints": [{"step": step, "faults": faults} for step, faults in restored.damaged.items()],
        "data_fingerprint": fingerprint,
        "threshold": None if classes else config.eval.threshold,
        "tta": config.eval.tta,
        "tiles": config.eval.tiles,
        "surface_tolerance": config.eval.surface_tolerance,
        **summaries[final],
        "postprocess": report.effects(summaries),
        "seconds_per_case": seconds / len(rows),
    }
    if is_primary():
        folder = workdir / run_folder.EVALUATION / side
        report.write(folder, summary, rows)
        _write_pictures(folder, workdir, config, cases, classes, kept, summary, rows)
        print(report.table(summary))
        for line in warnings:
            print(f"  {line}")
        print(f"  written to {folder}: metrics.json, cases.csv, cases.png, report.html")
    return summary


def _classes_of_both(workdir: Path, config: ConfigDict) -> tuple[str, ...]:
    """The names of the classes of run and data, which must be the same; empty for one class."""
    of_run, of_data = tuple(run_folder.read_classes(workdir)), tuple(load_classes(config))
    if of_run != of_data:
        run, data = (", ".join(names) or "one class" for names in (of_run, of_data))
        raise InputError(
            f"{config.data.root}: its masks have {data}, and {workdir} was trained on {run}: the classes must be the "
            "same, in the same order: correct dataset.json, or the masks."
        )
    return of_run


def _slices_to_score(
    workdir: Path, cases: list[Case], side: str, data: Path | None
) -> tuple[Int32[np.ndarray, "n 2"], str]:
    """(position in cases, slice) of what is to be scored, and what a reader must know of the split."""
    if data is not None:
        return _all_slices(range(len(cases)), cases), f"every case of {data}"
    split = splits.read(workdir / run_folder.SPLIT, cases)
    if side == "all":
        return _all_slices(range(len(cases)), cases), "training cases included"
    return splits.slices_of(split, cases, side), split.label


def _all_slices(positions: range | list[int], cases: list[Case]) -> Int32[np.ndarray, "n 2"]:
    return np.array([(position, n) for position in positions for n in range(len(cases[position].image))], np.int32)


def count_slices(
    predicted: Iterator[scoring.Predicted], cases: list[Case], classes: Sequence[str]
) -> tuple[Int32[np.ndarray, "n 2"], Int64[np.ndarray, "n 3"] | Int64[np.ndarray, "n k 3"]]:
    """(position in cases, slice) and (true positive, false positive, false negative) pixels of each slice.

    Those of each class, if there are several.
    """
    index, counts = [], []
    for position, slices, mask in predicted:
        index += [(position, number) for number in slices.tolist()]
        truth = np.asarray(cases[position].mask)[slices]
        counts.append(metrics.count_classes(mask, truth, len(classes)) if classes else metrics.count(mask, truth))
    return np.array(index, np.int32), np.concatenate(counts)


def _write_pictures(
    folder: Path,
    workdir: Path,
    config: ConfigDict,
    cases: list[Case],
    classes: Sequence[str],
    kept: Mapping[int, PackedMask],
    summary: dict,
    rows: list[scoring.Row],
) -> None:
    """cases.png and report.html, of the masks as they were scored."""
    positions = {case.name: position for position, case in enumerate(cases)}

    def scored(row: scoring.Row) -> case_view.Scored:
        position = positions[row["case"]]
        mask = postprocess.apply(packed_masks.unpack(kept[position]), config.eval.postprocess.to_dict())
        return cases[position], kept[position].numbers, mask

    examples = [
        example(f"{title}: {row['case']}, Dice {row['dice']:.3f}", *scored(row))
        for title, row in report.best_median_worst(rows)
    ]
    pictures.write_cases(folder / "cases.png", examples, f"{summary['split']}, {summary['split_by']}", classes)
    channels = cases[0].image.shape[-1]
    is_lgg = config.data.source in LGG_SOURCES and channels == len(LGG_SEQUENCES)
    report_page.write(
        folder / "report.html",
        title=workdir.resolve().name,
        summary=summary,
        rows=rows,
        epochs=run_folder.epochs_of(run_folder.read_history(workdir)),
        config=config.to_dict(),
        sequences=LGG_SEQUENCES if is_lgg else [f"sequence {number + 1}" for number in range(channels)],
        first_sequence=FLAIR if is_lgg else 0,
        pictures=case_view.within_budget(map(scored, rows), report_page.BUDGET, labels.count(classes)),
    )


def example(
    title: str, case: Case, numbers: Int[np.ndarray, " s"], mask: UInt8[np.ndarray, "s h w"]
) -> pictures.Example:
    """A case to be shown with its masks; slices that were not scored have no outlines."""
    truth, predicted = np.zeros_like(case.mask), np.zeros_like(case.mask)
    truth[numbers], predicted[numbers] = case.mask[numbers], mask
    channel = min(FLAIR, case.image.shape[-1] - 1)
    return pictures.Example(title, np.asarray(case.image[..., channel]), truth, predicted)

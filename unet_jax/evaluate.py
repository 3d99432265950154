"""Scores a run on one side of its split, from the run's folder alone."""

import functools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Int, Int32, Int64
from ml_collections import ConfigDict
from tqdm import tqdm

from unet_jax import checkpoint, metrics, models, pictures, postprocess, report, run_folder, scoring, steps
from unet_jax.data import cache, lgg, phantom, splits
from unet_jax.data.case import Case
from unet_jax.errors import InputError
from unet_jax.files import read_json
from unet_jax.inference import Probability, segment_cases
from unet_jax.sharding import by_batch, data_mesh, is_primary, replicated

SIDES = ("train", "val", "test", "all")
CHECKPOINTS = ("best", "newest")
FLAIR = 1


def evaluate(workdir: Path, *, side: str = "test", data: Path | None = None) -> dict:
    """Scores the checkpoint that the config names; writes metrics.json, cases.csv and pictures; prints a table.

    Args:
        workdir: the run's folder.
        side: "train", "val", "test", or "all" for every case there is.
        data: another folder of cases than the one the run was trained on; it needs side "all".

    Returns:
        what metrics.json holds.

    Raises:
        InputError: the folder holds no run, the data are not those of its split, or an argument is out of range.
    """
    if side not in SIDES:
        raise InputError(f"--split is {side!r}; it must be one of {', '.join(SIDES)}.")
    if data is not None and side != "all":
        raise InputError(f"--data needs --split=all; --split is {side!r}, a side of the run's own data.")
    config = ConfigDict(read_json(workdir / run_folder.CONFIG))
    if data is not None:
        config.data.update(source="lgg", root=str(data))
    cases, fingerprint = load_cases(config)
    index, label = _slices_to_score(workdir, cases, side, data)

    mesh = data_mesh()
    probability, step = load_network(workdir, config, cases[0].image.shape[-1], mesh)
    began = time.perf_counter()
    predicted = segment(probability, config, cases, index, mesh, title=f"scoring {side}")
    after_each_step = config.eval.postprocess.to_dict()
    stages = scoring.score_cases(cases, predicted, tolerance=config.eval.surface_tolerance, steps=after_each_step)
    seconds = time.perf_counter() - began

    summaries = {stage: report.summarise(scores.rows, scores.counts) for stage, scores in stages.items()}
    final = next(reversed(stages))
    rows = stages[final].rows
    summary = {
        "split": side,
        "split_by": label,
        "checkpoint": config.eval.checkpoint,
        "checkpoint_step": step,
        "data_fingerprint": fingerprint,
        "threshold": config.eval.threshold,
        "surface_tolerance": config.eval.surface_tolerance,
        **summaries[final],
        "postprocess": report.effects(summaries),
        "seconds_per_case": seconds / len(rows),
    }
    if is_primary():
        folder = workdir / run_folder.EVALUATION / side
        report.write(folder, summary, rows)
        examples = [
            _example(probability, config, cases, row, title, mesh) for title, row in report.best_median_worst(rows)
        ]
        pictures.write_cases(folder / "cases.png", examples, f"{side}, {label}")
        print(report.table(summary))
        print(f"  written to {folder}: metrics.json, cases.csv, cases.png")
    return summary


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


def load_cases(config: ConfigDict) -> tuple[list[Case], str]:
    """The config's cases, and the fingerprint of their files; the phantom is made first where it is asked for.

    Raises:
        InputError: anything is wrong with the data; every fault is listed.
    """
    root = Path(config.data.root)
    if config.data.source == "phantom":
        made = config.phantom
        phantom.write_once(root, seed=made.seed, patients=made.patients, size=made.size, slices=tuple(made.slices))
    return cache.load(lgg, root, Path(config.data.cache))


def load_network(workdir: Path, config: ConfigDict, channels: int, mesh: Mesh) -> tuple[Probability, int]:
    """The checkpoint that the config names as a function from images to probabilities, and its step.

    Raises:
        InputError: there is no checkpoint, or it does not fit the config.
    """
    model = nnx.eval_shape(lambda: models.build(in_channels=channels, num_classes=1, rngs=nnx.Rngs(0), **config.model))
    graphdef, params, batch_stats = steps.split_model(model)
    like = checkpoint.on_devices({"params": params, "batch_stats": batch_stats}, replicated(mesh))
    with checkpoint.open_checkpoints(workdir / run_folder.CHECKPOINTS, read_only=True) as manager:
        step = manager.best_step() if config.eval.checkpoint == "best" else manager.latest_step()
        if step is None:
            raise InputError(f"{workdir} has no scored checkpoint yet: train it for at least one epoch.")
        restored = checkpoint.restore(manager, step, {"model": like})["model"]
    probability = steps.make_probability_step(graphdef, image_size=config.data.image_size)
    return functools.partial(probability, restored["params"], restored["batch_stats"]), step


def segment(
    probability: Probability,
    config: ConfigDict,
    cases: list[Case],
    index: Int[np.ndarray, "n 2"],
    mesh: Mesh,
    title: str,
) -> Iterator[scoring.Predicted]:
    """`inference.segment_cases` as the config wants it, with a progress bar."""
    predicted = segment_cases(
        probability,
        cases,
        index,
        batch_size=config.train.batch_size,
        slab=config.data.slab,
        threshold=config.eval.threshold,
        sharding=by_batch(mesh),
    )
    return iter(tqdm(predicted, desc=title, total=len(set(index[:, 0])), unit="case", disable=None, leave=False))


def count_slices(
    predicted: Iterator[scoring.Predicted], cases: list[Case]
) -> tuple[Int32[np.ndarray, "n 2"], Int64[np.ndarray, "n 3"]]:
    """(position in cases, slice) and (true positive, false positive, false negative) pixels of each slice."""
    index, counts = [], []
    for position, slices, mask in predicted:
        index += [(position, number) for number in slices.tolist()]
        counts.append(metrics.count(mask, np.asarray(cases[position].mask)[slices]))
    return np.array(index, np.int32), np.concatenate(counts)


def _example(
    probability: Probability, config: ConfigDict, cases: list[Case], row: scoring.Row, title: str, mesh: Mesh
) -> pictures.Example:
    position = next(n for n, case in enumerate(cases) if case.name == row["case"])
    case = cases[position]
    index = _all_slices([position], cases)
    _, _, mask = next(segment(probability, config, cases, index, mesh, title="drawing"))
    channel = min(FLAIR, case.image.shape[-1] - 1)
    return pictures.Example(
        f"{title}: {case.name}, Dice {row['dice']:.3f}",
        np.asarray(case.image[..., channel]),
        np.asarray(case.mask),
        postprocess.apply(mask, config.eval.postprocess.to_dict()),
    )

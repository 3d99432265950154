"""Scores a run's best checkpoint on one side of its split, from the run's folder alone."""

import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Int32, Int64
from ml_collections import ConfigDict
from tqdm import tqdm

from unet_jax import checkpoint, metrics, models, pictures, report, run_folder, steps
from unet_jax.data import cache, lgg, phantom, splits
from unet_jax.data.case import Case
from unet_jax.data.pipeline import Slices, evaluation_batches
from unet_jax.errors import InputError
from unet_jax.files import read_json
from unet_jax.inference import Segment, segment_batches, segment_volume
from unet_jax.sharding import by_batch, data_mesh, is_primary, replicated

SIDES = ("train", "val", "test", "all")
FLAIR = 1


def evaluate(workdir: Path, *, side: str = "test", data: Path | None = None) -> dict:
    """Scores the best checkpoint; writes metrics.json, cases.csv and pictures; prints a table.

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
    segment, step = load_segment(workdir, config, cases[0].image.shape[-1], mesh)
    batch_size = config.train.batch_size
    began = time.perf_counter()
    counts = count_slices(segment, cases, index, batch_size, mesh, title=f"scoring {side}")
    seconds = time.perf_counter() - began

    rows = report.case_rows(cases, index, counts)
    summary = {
        "split": side,
        "split_by": label,
        "checkpoint_step": step,
        "data_fingerprint": fingerprint,
        "threshold": config.eval.threshold,
        **report.summarise(rows, counts),
        "seconds_per_case": seconds / len(rows),
    }
    if is_primary():
        folder = workdir / run_folder.EVALUATION / side
        report.write(folder, summary, rows)
        examples = [
            _example(segment, cases, row, title, batch_size, mesh)
            for title, row in report.best_median_worst(rows)
        ]
        pictures.write_cases(folder / "cases.png", examples, f"{side}, {label}")
        print(report.table(summary))
        print(f"  written to {folder}: metrics.json, cases.csv, cases.png")
    return summary


def _slices_to_score(
    workdir: Path, cases: list[Case], side: str, data: Path | None
) -> tuple[Int32[np.ndarray, "n 2"], str]:
    """(position in cases, slice) of what is to be scored, and what a reader must know of the split."""
    every = [(position, number) for position, case in enumerate(cases) for number in range(len(case.image))]
    if data is not None:
        return np.array(every, np.int32), f"every case of {data}"
    split = splits.read(workdir / run_folder.SPLIT, cases)
    if side == "all":
        return np.array(every, np.int32), "training cases included"
    return splits.slices_of(split, cases, side), split.label


def load_cases(config: ConfigDict) -> tuple[list[Case], str]:
    """The config's cases, and the fingerprint of their files; the phantom is made first where it is asked for.

    Raises:
        InputError: anything is wrong with the data; every fault is listed.
    """
    root = Path(config.data.root)
    if config.data.source == "phantom":
        made = config.phantom
        phantom.write_once(
            root, seed=made.seed, patients=made.patients, size=made.size, slices=tuple(made.slices)
        )
    return cache.load(lgg, root, Path(config.data.cache))


def load_segment(workdir: Path, config: ConfigDict, channels: int, mesh: Mesh) -> tuple[Segment, int]:
    """The best checkpoint as a function from images to masks, and its step.

    Raises:
        InputError: there is no checkpoint, or it does not fit the config.
    """
    manager = checkpoint.open_checkpoints(workdir / run_folder.CHECKPOINTS)
    step = manager.best_step()
    if step is None:
        raise InputError(f"{workdir} has no scored checkpoint yet: train it for at least one epoch.")
    model = nnx.eval_shape(
        lambda: models.build(in_channels=channels, num_classes=1, rngs=nnx.Rngs(0), **config.model)
    )
    graphdef, params, batch_stats = steps.split_model(model)
    like = checkpoint.on_devices({"params": params, "batch_stats": batch_stats}, replicated(mesh))
    restored = checkpoint.restore(manager, step, {"model": like})["model"]
    segment = steps.make_segment_step(
        graphdef, image_size=config.data.image_size, threshold=config.eval.threshold
    )
    return functools.partial(segment, restored["params"], restored["batch_stats"]), step


def count_slices(
    segment: Segment,
    cases: list[Case],
    index: Int32[np.ndarray, "n 2"],
    batch_size: int,
    mesh: Mesh,
    title: str,
) -> Int64[np.ndarray, "n 3"]:
    """(true positive, false positive, false negative) pixels of each slice of `index`, at the files' own size."""
    sizes = [case.image.shape[1:3] for case in cases]
    counts = np.zeros((len(index), 3), np.int64)
    with tqdm(desc=title, total=len(index), unit="slice", disable=None, leave=False) as bar:
        # Each size by itself: padded to another, a slice would be segmented otherwise than alone.
        for size in sorted(set(sizes)):
            rows = np.flatnonzero([sizes[position] == size for position in index[:, 0]])
            batches = evaluation_batches(Slices(cases, index[rows]), batch_size)
            done = 0
            for batch in segment_batches(segment, batches, by_batch(mesh)):
                found = metrics.count(batch["predicted"], batch["mask"])
                counts[rows[done : done + len(found)]] = found
                done += len(found)
                bar.update(len(found))
    return counts


def _example(
    segment: Segment, cases: list[Case], row: report.Row, title: str, batch_size: int, mesh: Mesh
) -> pictures.Example:
    case = next(case for case in cases if case.name == row["case"])
    predicted = segment_volume(segment, case.image, batch_size, by_batch(mesh))
    channel = min(FLAIR, case.image.shape[-1] - 1)
    headline = f"{title}: {case.name}, Dice {row['dice']:.3f}"
    return pictures.Example(headline, np.asarray(case.image[..., channel]), np.asarray(case.mask), predicted)

"""Membranes between cells, as the ISBI 2012 challenge scores them, on the test sides of a cross-validation.

    python main.py --mode=crossval --config=configs/isbi2012.py
    python -m benchmarks.membranes runs/isbi2012_crossval

The run's class is cells; all else is membrane. Prints the Dice of membranes, the pixel error and the foreground-
restricted Rand score, each a mean over slices, at several thresholds of the probability of a cell. In the last row
each fold has the threshold with the best mean of that score on the test slices of the other folds.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32, UInt8
from scipy import ndimage

from unet_jax import metrics
from unet_jax.crossval import folds
from unet_jax.crossval.folds import Fold
from unet_jax.data import load, splits
from unet_jax.evaluation import threshold
from unet_jax.inference.network import load_network
from unet_jax.inference.settings import SegmentSettings
from unet_jax.run import folder as run_folder
from unet_jax.run.config import read_config
from unet_jax.runtime.cpu_devices import use_cores
from unet_jax.runtime.mesh import data_mesh

# Mostly low ones: a loss that weighs membranes more makes cells less probable.
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
SCORES = ("Dice of membranes", "pixel error", "Rand score")
# What a better one is.
SIGN = np.array([1, -1, 1])


def scores(predicted: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> tuple[float, float, float]:
    """SCORES of a slice; in both masks cells are 1 and membranes 0."""
    membranes = metrics.count(1 - predicted[None], 1 - truth[None])[0]
    return metrics.dice(membranes, empty=1.0), float(np.mean(predicted != truth)), rand_score(predicted, truth)


def rand_score(predicted: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> float:
    """The foreground-restricted Rand score after border thinning, from 0 to 1 (Arganda-Carreras et al. 2015).

    V = Σ p_ij² / (½ Σ s_i² + ½ Σ t_j²): of the pixels of true cells, p_ij is the share in predicted cell i and true
    cell j; s and t are its sums. It is the harmonic mean of the shares of pairs of pixels of a cell that the other
    segmentation has in one cell too. Cells are connected through the sides of their pixels.
    """
    cells, _ = ndimage.label(truth)
    inside = cells > 0
    pairs = np.stack([thinned(predicted)[inside], cells[inside]])
    _, joint = np.unique(pairs, axis=1, return_counts=True)
    of_predicted, of_true = (np.unique(one, return_counts=True)[1] for one in pairs)
    squares = [np.sum(counts.astype(np.float64) ** 2) for counts in (joint, of_predicted, of_true)]
    return float(2 * squares[0] / (squares[1] + squares[2]))


def thinned(predicted: UInt8[np.ndarray, "h w"]) -> Int32[np.ndarray, "h w"]:
    """Cells by number, from 1, their membranes thinned to nothing: each pixel of these is of the nearest cell.

    Without any cell all is 0.
    """
    cells, found = ndimage.label(predicted)
    if not found:
        return cells
    rows, columns = ndimage.distance_transform_edt(cells == 0, return_distances=False, return_indices=True)
    return cells[rows, columns]


def table(by_fold: Sequence[Float64[np.ndarray, "slices thresholds scores"]]) -> str:
    """A Markdown table of the means over all slices, with a row a threshold and one with those of the other folds."""
    lines = ["| threshold | " + " | ".join(SCORES) + " |", "|---" * (1 + len(SCORES)) + "|"]
    rows = dict(zip(map(str, THRESHOLDS), np.concatenate(by_fold).mean(0), strict=True))
    if len(by_fold) > 1:
        chosen = [nested(number, by_fold) for number in range(len(by_fold))]
        rows["that of the other folds"] = np.concatenate(chosen).mean(0)
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{score:.4f}" for score in row) + " |")
    return "\n".join(lines)


def nested(
    number: int, by_fold: Sequence[Float64[np.ndarray, "slices thresholds scores"]]
) -> Float64[np.ndarray, "slices scores"]:
    """The scores of a fold, each at the threshold at which it is best on the slices of the other folds."""
    others = np.concatenate([one for other, one in enumerate(by_fold) if other != number])
    best = np.argmax(SIGN * others.mean(0), axis=0)
    return np.stack([by_fold[number][:, at, score] for score, at in enumerate(best)], axis=-1)


def _of_fold(fold: Fold) -> Float64[np.ndarray, "slices thresholds scores"]:
    config = read_config(fold.folder)
    cases = load.load(config).cases
    mesh = data_mesh()
    network, _ = load_network(fold.folder, config, mesh)
    index = splits.slices_of(splits.read(fold.folder / run_folder.SPLIT, cases), cases, "test")
    rows = []
    for case in threshold.segmented(network, cases, index, SegmentSettings.of_run(fold.folder, config, mesh)):
        truth = case.wanted.case.mask[case.wanted.slices]
        for probability, mask in zip(case.probability, truth, strict=True):
            rows.append([scores((probability >= at).astype(np.uint8), mask) for at in THRESHOLDS])
    return np.array(rows)


def main() -> None:
    """Scores the folds in the folder that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("Name the folder of a cross-validation: python -m benchmarks.membranes WORKDIR")
    found = folds.read(Path(sys.argv[1]))
    use_cores(found[0].config["train.batch_size"])
    print(table([_of_fold(fold) for fold in found]))


if __name__ == "__main__":
    main()

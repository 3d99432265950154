"""What flips, thresholds and post-processing give on a cross-validation that is trained, without training again.

    python main.py --mode=crossval --config=configs/lgg_cpu.py
    python -m benchmarks.after_training runs/lgg_cpu_crossval

Prints the mean Dice per patient over the test sides of all folds as a table: a row for each way to post-process, with
and without flips, a column for each threshold. The networks are the same throughout.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unet_jax.crossval import folds
from unet_jax.crossval.folds import Fold
from unet_jax.data import load, splits
from unet_jax.evaluation import threshold
from unet_jax.inference.network import load_network
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.windows import Segmented
from unet_jax.run import folder as run_folder
from unet_jax.run.config import read_config
from unet_jax.runtime.cpu_devices import use_cores
from unet_jax.runtime.mesh import data_mesh

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
# By the value of config.eval.tta.
FLIPS = {False: "no flips", True: "flips"}
# Values of config.eval.postprocess.
AS_PREDICTED = {"minimum_voxels": 0, "largest_component": False}
STEPS = {
    "as predicted": AS_PREDICTED,
    **{f"minimum_voxels={limit}": AS_PREDICTED | {"minimum_voxels": limit} for limit in (200, 500, 1000, 2000)},
    "largest_component": AS_PREDICTED | {"largest_component": True},
}


def mean_dice(found: Sequence[Segmented]) -> dict[str, list[float]]:
    """The mean Dice per patient of cases with masks and probabilities: for each of STEPS, at each of THRESHOLDS."""
    by_step = {name: threshold.mean_dice(found, settings) for name, settings in STEPS.items()}
    return {name: [scores[one] for one in THRESHOLDS] for name, scores in by_step.items()}


def table(by_fold: Sequence[Mapping[str, Sequence[float]]], patients: Sequence[int]) -> str:
    """A Markdown table of the mean over the patients of all folds.

    Args:
        by_fold: the Dice of each fold by its row's name, at each of THRESHOLDS.
        patients: how many each fold has.
    """
    lines = ["| | " + " | ".join(map(str, THRESHOLDS)) + " |", "|---" * (1 + len(THRESHOLDS)) + "|"]
    for name in by_fold[0]:
        pooled = np.average([fold[name] for fold in by_fold], axis=0, weights=patients)
        lines.append(f"| {name} | " + " | ".join(f"{dice:.3f}" for dice in pooled) + " |")
    return "\n".join(lines)


def _segmented(fold: Fold, *, flips: bool) -> list[Segmented]:
    """The test cases of a fold with their probabilities."""
    config = read_config(fold.folder, flips=flips)
    cases = load.load(config).cases
    mesh = data_mesh()
    network, _ = load_network(fold.folder, config, mesh)
    index = splits.slices_of(splits.read(fold.folder / run_folder.SPLIT, cases), cases, "test")
    return list(threshold.segmented(network, cases, index, SegmentSettings.of(config, mesh)))


def main() -> None:
    """Measures the folds in the folder that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("Name the folder of a cross-validation: python -m benchmarks.after_training WORKDIR")
    found = folds.read(Path(sys.argv[1]))
    use_cores(found[0].config["train.batch_size"])
    by_fold = []
    for fold in found:
        rows = {}
        for flips, flipped in FLIPS.items():
            rows |= {f"{flipped}, {name}": dice for name, dice in mean_dice(_segmented(fold, flips=flips)).items()}
        by_fold.append(rows)
    print(table(by_fold, [fold.metrics["patients"] for fold in found]))


if __name__ == "__main__":
    main()

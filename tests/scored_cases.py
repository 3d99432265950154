"""Cases whose scores can be worked out by hand, for the tests of summaries and of what is written of them."""

import functools
from collections.abc import Sequence

import numpy as np

from unet_jax.data.case import Case
from unet_jax.inference import postprocess
from unet_jax.metrics import cases as scoring
from unet_jax.metrics import summary

# Two scans of patient p, one of patient q: 2, 1 and 2 slices of 2x5 pixels.
CASES = [
    Case(name, patient, np.zeros((slices, 2, 5, 1), np.uint8), np.zeros((slices, 2, 5), np.uint8))
    for name, patient, slices in (("p_1", "p", 2), ("p_2", "p", 1), ("q_1", "q", 2))
]
INDEX = np.array([[0, 0], [0, 1], [1, 0], [2, 0], [2, 1]], np.int32)
# (true positive, false positive, false negative) of each slice
COUNTS = np.array([[4, 1, 1], [0, 0, 0], [0, 0, 2], [3, 0, 0], [0, 0, 0]], np.int64)
NOTHING = np.zeros_like(COUNTS)
# What evaluation adds to the summary of scores.
SCORED_HOW = {
    "split": "test",
    "split_by": "by patient",
    "checkpoint": "best",
    "checkpoint_step": 30,
    "damaged_checkpoints": [],
    "data_fingerprint": "0123abcd",
    "threshold": 0.5,
    "surface_tolerance": 2.0,
    "postprocess": [],
    "seconds_per_case": 1.0,
}


def rows(counts: np.ndarray = COUNTS) -> list[scoring.Row]:
    """The rows of CASES."""
    return summary.case_rows(CASES, INDEX, counts)


def whole_rows() -> list[scoring.Row]:
    """The rows with what whole cases have: of p two scans, of q one without a surface."""
    surfaces = {"p_1": (2.0, 1.0, 0.5), "p_2": (4.0, 2.0, 0.25), "q_1": (None, None, 0.0)}
    volumes = {"p_1": (0.5, 0.1), "p_2": (-1.5, None), "q_1": (3.0, 1.0)}
    lesions = {"p_1": (2, 1, 0), "p_2": (0, 3, 1), "q_1": (1, 0, 1)}
    found = []
    for row in rows():
        values = (*surfaces[row["case"]], *volumes[row["case"]], *lesions[row["case"]])
        units = {"distance_unit": "mm", "volume_unit": "ml"}
        found.append(row | dict(zip(scoring.WHOLE_CASE, values, strict=True)) | units)
    return found


def stages(minimum_voxels: int = 0, largest_component: bool = False) -> scoring.Stages:
    """Post-processing with these settings."""
    settings = {"minimum_voxels": minimum_voxels, "largest_component": largest_component}
    return functools.partial(postprocess.stages, settings=settings)


def random_classes() -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true masks, uint8 [case, slice, row, column] of 0 to 2; the first case lacks the second class."""
    predicted, truth = np.random.default_rng(0).integers(0, 3, (2, 4, 3, 6, 6), np.uint8)
    predicted[0], truth[0] = np.minimum(predicted[0], 1), np.minimum(truth[0], 1)
    return predicted, truth


def score(predicted: np.ndarray, truth: np.ndarray, classes: Sequence[str] = ()) -> tuple[scoring.Scores, dict]:
    """The scores of such masks, two cases a patient, without parts of a single voxel, and their summary."""
    image = np.zeros((*truth.shape[1:], 1), np.uint8)
    cases = [Case(f"{n}", f"patient {n // 2}", image, mask, (5.0, 1.0, 1.0)) for n, mask in enumerate(truth)]
    whole = [(n, np.arange(len(mask), dtype=np.int32), mask) for n, mask in enumerate(predicted)]
    found = scoring.score_cases(cases, whole, tolerance=1.0, stages=stages(2), classes=classes)["minimum_voxels"]
    return found, summary.summarise(found.rows, found.counts)

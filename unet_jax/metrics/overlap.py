"""Scores of masks against masks, from integer counts on the host.

Every score is None where it is undefined: a ratio of nothing to nothing, such as the Dice of two empty masks. How often
that happened is reported beside the means. The tutorial's convention, a Dice of 1 there, is for who asks for it: the
mean by slice.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64, Int64, UInt8


def count(predicted: UInt8[np.ndarray, "n h w"], truth: UInt8[np.ndarray, "n h w"]) -> Int64[np.ndarray, "n 3"]:
    """Pixels of each slice that are (true positive, false positive, false negative); masks hold 0 and 1.

    Summed over the slices, they are those of a scan:

        >>> truth = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 1]]], np.uint8)
        >>> predicted = np.array([[[1, 0], [1, 0]], [[0, 0], [0, 1]]], np.uint8)
        >>> counts = count(predicted, truth)
        >>> counts.tolist()
        [[1, 1, 1], [1, 0, 0]]
        >>> dice(counts[0]), dice(counts[1]), dice(counts.sum(0))
        (0.5, 1.0, 0.6666666666666666)
    """
    axes = (1, 2)
    true_positive = np.sum(predicted & truth, axes, dtype=np.int64)
    positive, true = np.sum(predicted, axes, dtype=np.int64), np.sum(truth, axes, dtype=np.int64)
    return np.stack([true_positive, positive - true_positive, true - true_positive], axis=-1)


def count_classes(
    predicted: UInt8[np.ndarray, "n h w"], truth: UInt8[np.ndarray, "n h w"], classes: int
) -> Int64[np.ndarray, "n k 3"]:
    """`count` of each of several classes; masks hold 0 and the classes' numbers from 1."""
    masks = [[(mask == number).astype(np.uint8) for mask in (predicted, truth)] for number in range(1, classes + 1)]
    return np.stack([count(*of_class) for of_class in masks], axis=1)


def mean_of_defined(values: Iterable[float | None]) -> float | None:
    """The mean over those that are not None; None if all are."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def dice(counts: Int64[np.ndarray, "3"], *, empty: float | None = None) -> float | None:
    """2 TP / (2 TP + FP + FN) (Dice 1945); `empty` where both masks are."""
    tp, fp, fn = counts.tolist()
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else empty


def iou(counts: Int64[np.ndarray, "3"]) -> float | None:
    """TP / (TP + FP + FN) (Jaccard 1901); None where both masks are empty."""
    tp, fp, fn = counts.tolist()
    return tp / (tp + fp + fn) if tp + fp + fn else None


def precision(counts: Int64[np.ndarray, "3"]) -> float | None:
    """TP / (TP + FP): the share of the prediction that is tumour; None where nothing was predicted."""
    tp, fp, _ = counts.tolist()
    return tp / (tp + fp) if tp + fp else None


def recall(counts: Int64[np.ndarray, "3"]) -> float | None:
    """TP / (TP + FN): the share of the tumour that was found; None where there is none."""
    tp, _, fn = counts.tolist()
    return tp / (tp + fn) if tp + fn else None


def specificity(counts: Int64[np.ndarray, "3"], voxels: int) -> float | None:
    """TN / (TN + FP), of so many voxels: the share of the background left alone; None where there is none."""
    tp, fp, fn = counts.tolist()
    background = voxels - tp - fn
    return (background - fp) / background if background else None


def is_empty(counts: Int64[np.ndarray, "3"]) -> bool:
    """Whether both the prediction and the truth are empty."""
    return not counts.any()


def distribution(values: Iterable[float | None]) -> dict[str, float | list[float] | None]:
    """Mean, median, standard deviation (n - 1; 0 for one), 95 % interval of the mean, over what is defined.

    All are None where nothing is.
    """
    array = np.asarray([value for value in values if value is not None], np.float64)
    if not len(array):
        return dict.fromkeys(("mean", "median", "std", "ci95"))
    return {
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        "std": float(array.std(ddof=1)) if len(array) > 1 else 0.0,
        "ci95": bootstrap_interval(array),
    }


def bootstrap_interval(values: Float64[np.ndarray, " n"], resamples: int = 10_000) -> list[float]:
    """95 % percentile interval of the mean over resampled patients (Efron 1979), the same on every call."""
    draws = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    return [float(bound) for bound in np.percentile(values[draws].mean(axis=1), [2.5, 97.5])]

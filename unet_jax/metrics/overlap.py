"""Overlap of two masks: integer counts, and the scores that follow from them.

Every score is None where it is undefined: a ratio of nothing to nothing, such as the Dice of two empty masks. How often
that happened is reported beside the means. The tutorial's convention, a Dice of 1 there, is for who asks for it: the
mean by slice.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt8

from unet_jax.data import regions


def count(predicted: UInt8[np.ndarray, "n h w"], truth: UInt8[np.ndarray, "n h w"]) -> Int64[np.ndarray, "n 3"]:
    """The numbers of (true positive, false positive, false negative) pixels of each slice; masks are 0 and 1.

    Their sums over slices are those of a scan:

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
    predicted: UInt8[np.ndarray, "n h w"], truth: UInt8[np.ndarray, "n h w"], members: Sequence[Sequence[int]]
) -> Int64[np.ndarray, "n k 3"]:
    """`count` of each of several classes, whose numbers in masks are `members`: see `data.regions`."""
    masks = [[regions.marked(mask, its).astype(np.uint8) for mask in (predicted, truth)] for its in members]
    return np.stack([count(*of_class) for of_class in masks], axis=1)


def dice(counts: Int64[np.ndarray, "3"], *, empty: float | None = None) -> float | None:
    """2 TP / (2 TP + FP + FN) (Dice 1945), from 0 to 1; `empty` if both masks are empty."""
    tp, fp, fn = counts.tolist()
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else empty


def iou(counts: Int64[np.ndarray, "3"]) -> float | None:
    """TP / (TP + FP + FN) (Jaccard 1901), from 0 to 1; None where both masks are empty."""
    tp, fp, fn = counts.tolist()
    return tp / (tp + fp + fn) if tp + fp + fn else None


def precision(counts: Int64[np.ndarray, "3"]) -> float | None:
    """TP / (TP + FP): the share of the prediction that is right; None if nothing was predicted."""
    tp, fp, _ = counts.tolist()
    return tp / (tp + fp) if tp + fp else None


def recall(counts: Int64[np.ndarray, "3"]) -> float | None:
    """TP / (TP + FN), or sensitivity: the share of the foreground that was found; None if there is none."""
    tp, _, fn = counts.tolist()
    return tp / (tp + fn) if tp + fn else None


def specificity(counts: Int64[np.ndarray, "3"], voxels: int) -> float | None:
    """TN / (TN + FP): the share of the background that is right; None if there is none.

    Args:
        counts: of a mask of `voxels` voxels, all others of which are true negatives.
        voxels: number of voxels.
    """
    tp, fp, fn = counts.tolist()
    background = voxels - tp - fn
    return (background - fp) / background if background else None


def is_empty(counts: Int64[np.ndarray, "3"]) -> bool:
    """Whether both masks are empty."""
    return not counts.any()

"""Lesions: the connected components of a mask, and how many of them were found."""

import numpy as np
import scipy  # its parts are imported when first used: none before a run's first step
from jaxtyping import Bool, Int32, Int64, UInt8

# Voxels are connected if they share a face, an edge or a corner.
TOUCHING = np.ones((3, 3, 3), bool)


def label(mask: UInt8[np.ndarray, "d h w"]) -> tuple[Int32[np.ndarray, "d h w"], int]:
    """The mask (0 and 1) with its lesions numbered from 1, in the order of their first voxels; and their number."""
    return scipy.ndimage.label(mask, TOUCHING)


def box(mask: UInt8[np.ndarray, "d h w"] | Bool[np.ndarray, "d h w"]) -> tuple[slice, slice, slice]:
    """The smallest box around all that is not 0; a single voxel where nothing is."""
    places = (np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis}))) for axis in range(3))
    return tuple(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 1) for found in places)


def number(mask: UInt8[np.ndarray, "d h w"]) -> int:
    """How many lesions there are: as `label` has it, in the memory of the box around them."""
    return label(mask[box(mask)])[1]


def count(predicted: UInt8[np.ndarray, "d h w"], truth: UInt8[np.ndarray, "d h w"]) -> Int64[np.ndarray, "3"]:
    """The numbers of (true positive, false positive, false negative) lesions; masks are 0 and 1.

    One shared voxel is a match: a true lesion is found if any voxel of it was predicted, and a predicted one is false
    if no voxel of it is in a true lesion. So each true lesion counts once, however many predicted pieces lie on it, and
    a predicted piece that spans several true lesions finds all of them. Counts of one case, or sums over cases, can be
    given to `metrics.recall`, `metrics.precision` and `metrics.dice`, which is then F1.
    """
    true_labels, true_lesions = label(truth)
    predicted_labels, predicted_lesions = label(predicted)
    common = (predicted & truth) > 0
    found = len(np.unique(true_labels[common]))
    justified = len(np.unique(predicted_labels[common]))
    return np.array([found, predicted_lesions - justified, true_lesions - found], np.int64)

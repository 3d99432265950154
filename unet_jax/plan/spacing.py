"""Which voxel size cases are resampled to, in which order their axes stand, and how large they then are.

Source: nnunetv2 2.8.1, experiment_planning/experiment_planners/default_experiment_planner.py; Isensee et al. 2021.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

# An axis is coarse whose voxels are more than this many times as long as the others', and which has fewer than one
# in so many of their voxels.
COARSE = 3
# Of the spacings along a coarse axis.
FINE_PERCENTILE = 10
# What a coarse axis keeps above the others, in millimetres, where that percentile falls below them.
MARGIN_MM = 1e-5
# The spacing of the low resolution grows by this factor at a time.
LOWRES_STEP = 1.03
# Axes whose voxels are more than this many times as long as others' wait while those catch up.
LOWRES_ALIKE = 2


def target_spacing(
    spacings: Float64[np.ndarray, "cases 3"], shapes: Float64[np.ndarray, "cases 3"]
) -> Float64[np.ndarray, " 3"]:
    """The median along each axis; along a coarse axis the 10th percentile, but no finer than the others.

    Args:
        spacings: millimetres of each case.
        shapes: voxels of each case, after cropping.
    """
    target = np.percentile(spacings, 50, axis=0)
    axis = coarse_axis(target, np.percentile(shapes, 50, axis=0))
    if axis is not None:
        finest = np.percentile(spacings[:, axis], FINE_PERCENTILE)
        others = np.delete(target, axis).max()
        target[axis] = others + MARGIN_MM if finest < others else finest
    return target


def coarse_axis(spacing: Float64[np.ndarray, " 3"], shape: Float64[np.ndarray, " 3"]) -> int | None:
    """The axis of much longer voxels and far fewer of them, if there is one."""
    axis = int(np.argmax(spacing))
    longer = spacing[axis] > COARSE * np.delete(spacing, axis).max()
    fewer = shape[axis] * COARSE < np.delete(shape, axis).min()
    return axis if longer and fewer else None


def transposition(spacing: Float64[np.ndarray, " 3"]) -> tuple[int, int, int]:
    """The order of axes that puts the one of the longest voxels first, and leaves the others as they are."""
    first = int(np.argmax(spacing))
    return (first, *(axis for axis in range(3) if axis != first))


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that undoes another."""
    return tuple(int(axis) for axis in np.argsort(order))


def coarser(spacing: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, " 3"]:
    """The next spacing on the way to a low resolution: only the fine axes, as long as others are twice as coarse."""
    fine = spacing.max() / spacing > LOWRES_ALIKE
    return np.where(fine, spacing * LOWRES_STEP, spacing) if fine.any() else spacing * LOWRES_STEP

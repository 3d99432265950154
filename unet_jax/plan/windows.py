"""Sliding windows: where they start, how much each of their voxels counts, and how small images are padded.

The rules are those of nnunetv2 2.8.1, inference/sliding_window_prediction.py, and of acvl-utils 0.2.6.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy  # its parts are imported when first used: none before a run's first step
from jaxtyping import Float16, Float32

# Of a window's size: the importance falls by this standard deviation.
SIGMA = 1 / 8
# Importance of the centre.
PEAK = 10


def starts(shape: Sequence[int], window: Sequence[int], step: float = 0.5) -> list[list[int]]:
    """Where windows start along each axis: evenly, at most `step` windows apart, the last one at the end.

    Args:
        shape: of the image, at least as large as the window.
        window: voxels an axis.
        step: share of the window, above 0, up to 1.
    """
    result = []
    for size, tile in zip(shape, window, strict=True):
        count = math.ceil((size - tile) / (tile * step)) + 1
        distance = (size - tile) / max(count - 1, 1)
        result.append([int(np.round(distance * at)) for at in range(count)])
    return result


def importance(window: Sequence[int]) -> Float32[np.ndarray, "..."]:
    """How much each voxel of a window counts: a Gaussian about its centre, PEAK there."""
    delta = np.zeros(window)
    delta[tuple(n // 2 for n in window)] = 1
    blurred = scipy.ndimage.gaussian_filter(delta, [n * SIGMA for n in window], mode="constant")
    return (blurred / (blurred.max() / PEAK)).astype(np.float32)


def in_half_precision(weights: Float32[np.ndarray, "..."]) -> Float16[np.ndarray, "..."]:
    """The importance as nnU-Net holds it: what would be 0 is the smallest number that is not."""
    half = weights.astype(np.float16)
    return np.maximum(half, half[half > 0].min())


def centred(shape: Sequence[int], window: Sequence[int]) -> list[tuple[int, int]]:
    """By how much each axis is padded, before and after, to be as large as the window at least."""
    missing = [max(tile - size, 0) for size, tile in zip(shape, window, strict=True)]
    return [(n // 2, n - n // 2) for n in missing]

"""How deep a network goes for a patch: which axes each stage halves, with which kernels (nnU-Net's rules).

Source: nnunetv2 2.8.1, experiment_planning/experiment_planners/network_topology.py; Isensee et al. 2021, supplement.
"""

import dataclasses
import math
from collections.abc import Sequence

# A pooled axis keeps this many voxels at least.
MIN_SIZE = 4
# An axis whose voxels are this many times as long as the shortest is not pooled, or convolved, together with it.
SIMILAR = 2


@dataclasses.dataclass(frozen=True)
class Topology:
    """The stages of a network, the finest first.

    Attributes:
        strides: of each stage, one number an axis; the first stage's are 1.
        kernels: samples a side of each stage's convolutions, one number an axis.
        patch: voxels an axis: what was asked for, padded up to the next multiple of `divisor`.
    """

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    patch: tuple[int, ...]

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each axis of an image has to divide by."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


def topology(spacing: Sequence[float], size: Sequence[int | float]) -> Topology:
    """Halves the finest axes, and those less than twice as coarse with them, until too few voxels are left.

    Args:
        spacing: millimetres an axis; 2 or 3 axes.
        size: voxels an axis wanted for a patch; a median may be a half number, and is padded up.
    """
    axes = range(len(spacing))
    spacing, left = list(spacing), list(size)
    kernel = [1] * len(spacing)
    strides, kernels = [(1,) * len(spacing)], []
    while pooled := _axes_to_pool(spacing, left):
        finest = min(spacing)
        kernel = [3 if was == 3 or edge / finest < SIMILAR else 1 for was, edge in zip(kernel, spacing, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in pooled else 1 for axis in axes))
        for axis in pooled:
            spacing[axis] *= 2
            left[axis] = math.ceil(left[axis] / 2)
    kernels.append((3,) * len(spacing))
    divisor = [math.prod(axis) for axis in zip(*strides, strict=True)]
    patch = tuple(math.ceil(n / by) * by for n, by in zip(size, divisor, strict=True))
    return Topology(tuple(strides), tuple(kernels), patch)


def _axes_to_pool(spacing: Sequence[float], size: Sequence[int | float]) -> list[int]:
    large = [axis for axis, n in enumerate(size) if n >= 2 * MIN_SIZE]
    if not large:
        return []
    finest = min(spacing[axis] for axis in large)
    pooled = [axis for axis in large if spacing[axis] / finest < SIMILAR]
    # A single axis has to be larger still.
    return [] if len(pooled) == 1 and size[pooled[0]] < 3 * MIN_SIZE else pooled

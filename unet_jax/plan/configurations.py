"""Which configurations a data set gets: slices, volumes, and volumes of a lower resolution first.

Source: nnunetv2 2.8.1, experiment_planning/experiment_planners/default_experiment_planner.py, `plan_experiment`.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float64

from unet_jax.plan.patch import PatchChoice, choose_patch
from unet_jax.plan.presets import Preset
from unet_jax.plan.spacing import coarser

SLICES, FULLRES, LOWRES, CASCADE = "2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"
# A patch that covers less than this part of the median case calls for a lower resolution,
LOWRES_BELOW = 0.25
# which is kept where the full resolution has at least this many times its voxels.
LOWRES_WORTH = 2


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every configuration of a plan is made for.

    Attributes:
        preset: what the networks look like.
        memory_gb: of the accelerator.
        classes: labels, background and ignored ones included.
        cases: how many there are to train on.
    """

    preset: Preset
    memory_gb: int | float
    classes: int
    cases: int


@dataclasses.dataclass(frozen=True)
class Choice:
    """A configuration's grid and what fits it. Axes stand in the plan's order.

    Attributes:
        spacing: millimetres an axis.
        median_shape: voxels an axis of the median case in this spacing.
        patch: patch, batch size and network.
    """

    spacing: tuple[float, ...]
    median_shape: tuple[int | float, ...]
    patch: PatchChoice


@dataclasses.dataclass(frozen=True)
class Choices:
    """The configurations of a plan.

    Attributes:
        slices: of single slices.
        fullres: of volumes; None where cases are single slices.
        lowres: of volumes in a coarser spacing; None where a patch covers enough.
        is_lowres_worth_it: False where `lowres` was found and has too few voxels fewer to be kept.
    """

    slices: Choice
    fullres: Choice | None
    lowres: Choice | None
    is_lowres_worth_it: bool

    @property
    def has_cascade(self) -> bool:
        """Whether there is a lower resolution, and a configuration that starts from its masks."""
        return self.lowres is not None and self.is_lowres_worth_it


def choose(spacing: Float64[np.ndarray, " 3"], median_shape: Float64[np.ndarray, " 3"], budget: Budget) -> Choices:
    """Chooses patches and batches for each configuration.

    Args:
        spacing: millimetres an axis that cases are resampled to, in the plan's order.
        median_shape: voxels an axis of the median case in that spacing.
        budget: what it is made for.

    Raises:
        InputError: no patch fits the memory.
    """
    voxels = _voxels(median_shape)
    fullres = lowres = None
    # 1.5, which a median may be, counts as a volume.
    if median_shape[0] != 1:
        fullres = _choice(spacing, median_shape, voxels, budget)
        lowres = _lowres(spacing, median_shape, fullres, budget)
    worth_it = lowres is not None and voxels / _lowres_voxels(spacing, median_shape, lowres) >= LOWRES_WORTH
    # The whole volumes count here as well.
    slices = _choice(spacing[1:], median_shape[1:], voxels, budget)
    return Choices(slices, fullres, lowres, worth_it)


def _lowres(
    spacing: Float64[np.ndarray, " 3"], median_shape: Float64[np.ndarray, " 3"], fullres: Choice, budget: Budget
) -> Choice | None:
    """The finest spacing, in steps of 3 %, whose patch covers enough of the median case."""
    lowres, patch, voxels, low = None, fullres.patch.patch, _voxels(median_shape), spacing
    while math.prod(patch) / voxels < LOWRES_BELOW:
        low = coarser(low)
        shape = spacing / low * median_shape
        voxels = _voxels(shape)
        lowres = _choice(low, np.array([round(n) for n in shape.tolist()]), voxels, budget)
        patch = lowres.patch.patch
    return lowres


def _lowres_voxels(
    spacing: Float64[np.ndarray, " 3"], median_shape: Float64[np.ndarray, " 3"], lowres: Choice
) -> float:
    """Of the median case, before its axes are rounded."""
    return _voxels(spacing / np.array(lowres.spacing) * median_shape)


def _choice(spacing: np.ndarray, median_shape: np.ndarray, voxels: float, budget: Budget) -> Choice:
    """As `choose`, for one configuration.

    Args:
        spacing: millimetres an axis.
        median_shape: voxels an axis.
        voxels: of the median case, which with the number of cases limits the batch.
        budget: what it is made for.
    """
    patch = choose_patch(
        spacing.tolist(),
        median_shape.tolist(),
        voxels * budget.cases,
        classes=budget.classes,
        preset=budget.preset,
        memory_gb=budget.memory_gb,
    )
    return Choice(tuple(spacing.tolist()), tuple(median_shape.tolist()), patch)


def _voxels(shape: np.ndarray) -> float:
    return float(np.prod(shape, dtype=np.float64))

"""Patch and batch size of a configuration: as large a patch as memory allows, then as many of them.

Source: nnunetv2 2.8.1, experiment_planning/experiment_planners, `get_plans_for_configuration`.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from unet_jax.errors import InputError
from unet_jax.plan import presets
from unet_jax.plan.memory_proxy import activations
from unet_jax.plan.network import Network
from unet_jax.plan.presets import MIN_BATCH, REFERENCE_BATCH, Preset
from unet_jax.plan.topology import Topology, topology

# A patch is looked for from this many voxels downwards, by the number of axes.
FIRST_PATCH = {2: 2048**2, 3: 256**3}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A patch that was considered.

    Attributes:
        patch: voxels an axis.
        network: for that patch.
        activations: of a batch of one; see `memory_proxy.activations`.
    """

    patch: tuple[int, ...]
    network: Network
    activations: int


@dataclasses.dataclass(frozen=True)
class PatchChoice:
    """Patch and batch size, and how they came about.

    Attributes:
        tried: every patch that was considered; the last is the one.
        batch_size: patches a step.
        budget: activations that the memory stands for.
        batch_by_memory: patches that the budget allows.
        batch_by_coverage: patches that cover as much of the data as a batch may.
    """

    tried: tuple[Estimate, ...]
    batch_size: int
    budget: float
    batch_by_memory: int
    batch_by_coverage: int

    @property
    def patch(self) -> tuple[int, ...]:
        """Voxels an axis."""
        return self.tried[-1].patch

    @property
    def network(self) -> Network:
        """The network for the patch."""
        return self.tried[-1].network


def choose_patch(
    spacing: Sequence[float],
    median_shape: Sequence[int | float],
    voxels: float,
    *,
    classes: int,
    preset: Preset,
    memory_gb: int | float,
) -> PatchChoice:
    """Starts from the median case, or a large patch where that is larger, and shrinks it until the network fits.

    Each time the axis shrinks that is longest beside the median case; of several, the last.

    Args:
        spacing: millimetres an axis; 2 or 3 axes.
        median_shape: voxels an axis of the median case in this spacing.
        voxels: of all cases together.
        classes: labels, background and ignored ones included.
        preset: what the network looks like.
        memory_gb: of the accelerator.

    Raises:
        InputError: no patch fits, or the median case has no voxel.
    """
    axes = len(spacing)
    budget = preset.activations[axes] * (memory_gb / preset.memory_gb)
    reference = REFERENCE_BATCH[axes]

    if min(median_shape) == 0:
        raise InputError(
            f"In a spacing of {_written(spacing)} mm the median case has {_written(median_shape)} voxels: give a finer "
            "config.plan.spacing."
        )
    stages = topology(spacing, np.minimum(_first_patch(spacing), median_shape).tolist())
    tried = [_estimate(stages, preset, classes)]
    while _needs(tried[-1], preset, reference) > budget:
        stages = topology(spacing, _smaller(spacing, stages, median_shape))
        if min(stages.patch) < 1:
            raise InputError(
                f"config.plan.memory_gb={memory_gb:g}: no patch of a case of {_written(median_shape)} voxels fits "
                f"(the smallest tried is {_written(tried[-1].patch)}): give more."
            )
        tried.append(_estimate(stages, preset, classes))

    by_memory = round((budget / tried[-1].activations) * reference)
    by_coverage = round(voxels * preset.coverage / math.prod(stages.patch))
    batch_size = max(min(by_memory, by_coverage), MIN_BATCH)
    return PatchChoice(tuple(tried), batch_size, budget, by_memory, by_coverage)


def _first_patch(spacing: Sequence[float]) -> list[int]:
    """As long along each axis in millimetres, and of FIRST_PATCH voxels."""
    shape = 1 / np.array(spacing)
    scale = (FIRST_PATCH[len(spacing)] / np.prod(shape)) ** (1 / len(spacing))
    return [round(n) for n in (shape * scale).tolist()]


def _needs(estimate: Estimate, preset: Preset, reference: int) -> int | float:
    return estimate.activations / reference * MIN_BATCH if preset.fills_smallest_batch else estimate.activations


def _smaller(spacing: Sequence[float], stages: Topology, median_shape: Sequence[int | float]) -> list[int]:
    """The patch less one step along the axis that is longest beside the median case.

    The step is what the shorter patch has to divide by, which may be half of what the longer one has to: 256 is
    followed by 224, not by 192.
    """
    ratios = [n / median for n, median in zip(stages.patch, median_shape, strict=True)]
    axis = max(range(len(ratios)), key=lambda axis: (ratios[axis], axis))
    shorter = list(stages.patch)
    shorter[axis] -= stages.divisor[axis]
    step = topology(spacing, shorter).divisor[axis]
    return [n - step if at == axis else n for at, n in enumerate(stages.patch)]


def _estimate(stages: Topology, preset: Preset, classes: int) -> Estimate:
    depth = len(stages.strides)
    network = Network(
        residual=preset.residual,
        features=presets.features(depth, len(stages.patch)),
        kernels=stages.kernels,
        strides=stages.strides,
        blocks=preset.blocks(depth),
        decoder_blocks=preset.decoder_blocks(depth),
    )
    return Estimate(stages.patch, network, activations(network, stages.patch, classes))


def _written(shape: Sequence[int | float]) -> str:
    return " × ".join(f"{n:g}" for n in shape)

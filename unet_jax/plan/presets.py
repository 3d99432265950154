"""nnU-Net's planners by the names that recipes use, and what each of them allows a network.

Source: nnunetv2 2.8.1, experiment_planning/experiment_planners/default_experiment_planner.py and
residual_unets/residual_encoder_unet_planners.py; Isensee et al. 2021 and 2024.
"""

import dataclasses

# Samples a batch that the reference activations stand for, by the number of axes.
REFERENCE_BATCH = {2: 12, 3: 2}
MIN_BATCH = 2
FIRST_FEATURES = 32
MAX_FEATURES = {2: 512, 3: 320}


@dataclasses.dataclass(frozen=True)
class Preset:
    """What a planner aims at.

    Attributes:
        planner: nnU-Net's name of it.
        plans: the name that its plans have unless another is given.
        residual: whether the encoder is residual.
        activations: what a network at `memory_gb` may hold at once, in the counts of `memory_proxy.activations`, by the
            number of axes.
        memory_gb: of the accelerator for which `activations` were chosen.
        coverage: the part of all voxels that a batch may cover at most.
        fills_smallest_batch: whether a patch is small enough once a batch of 2 fits; otherwise the reference batch
            counts, which in 2-D is 12.
    """

    planner: str
    plans: str
    residual: bool
    activations: dict[int, float]
    memory_gb: float
    coverage: float
    fills_smallest_batch: bool = False

    def blocks(self, stages: int) -> tuple[int, ...]:
        """Convolutions, or residual blocks, of each stage of the encoder, the finest first."""
        return ((1, 3, 4) + (6,) * stages)[:stages] if self.residual else (2,) * stages

    def decoder_blocks(self, stages: int) -> tuple[int, ...]:
        """Convolutions of each stage of the decoder, which lacks the coarsest."""
        return ((1,) if self.residual else (2,)) * (stages - 1)


PRESETS = {
    "default": Preset("ExperimentPlanner", "nnUNetPlans", False, {3: 560e6, 2: 85e6}, 8.0, 0.05, True),
    "resenc_m": Preset("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", True, {3: 680e6, 2: 135e6}, 8.0, 1.0),
    "resenc_l": Preset("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans", True, {3: 2.1e9, 2: 380e6}, 24.0, 1.0),
    "resenc_xl": Preset("nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans", True, {3: 3.6e9, 2: 560e6}, 40.0, 1.0),
}


def features(stages: int, axes: int) -> tuple[int, ...]:
    """Channels of each stage, the finest first: 32, doubled up to 320 in 3-D and 512 in 2-D."""
    return tuple(min(FIRST_FEATURES * 2**stage, MAX_FEATURES[axes]) for stage in range(stages))

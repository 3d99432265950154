"""What makes of the recipe `nnunet` one network on patches of a fixed size, without planning."""

from collections.abc import Sequence


def keys(patch: Sequence[int], features: Sequence[int], batch: int, dtype: str) -> tuple[str, ...]:
    """The config's keys with their values: nnU-Net's plain network, 3×3×3 kernels, halved from stage to stage.

    Args:
        patch: voxels an axis.
        features: of each stage.
        batch: patches a step.
        dtype: of the features, "float32" or "bfloat16".
    """
    stages = len(features)
    return (
        "data.folds=0",
        "plan.configurations=None",
        f"data.patch={patch}",
        f"train.batch_size={batch}",
        f"model.dtype={dtype}",
        "model.rank=3",
        "model.residual=False",
        f"model.features={features}",
        f"model.kernels={((3, 3, 3),) * stages}",
        f"model.strides={((1, 1, 1), *((2, 2, 2),) * (stages - 1))}",
        f"model.blocks={(2,) * stages}",
        f"model.decoder_blocks={(2,) * (stages - 1)}",
        "loss.dice.per_sample=True",
    )

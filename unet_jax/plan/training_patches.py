"""What a training step draws: patches of the training side, as the step number has them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from unet_jax.errors import InputError
from unet_jax.plan import patches
from unet_jax.plan.patches import Sampling
from unet_jax.plan.prepared import PreparedCase


@dataclasses.dataclass(frozen=True)
class Patches:
    """Patches of preprocessed cases, the twin of `data.slices.Slices`.

    It holds the names of files and no open one, so that it travels to worker processes as it is.

    Attributes:
        cases: the training side.
        positions: of each of `cases` among all of the data set.
        sampling: how they are drawn.
        seed: of the draws; any integer from 0.
    """

    cases: Sequence[PreparedCase]
    positions: Int[np.ndarray, " n"]
    sampling: Sampling
    seed: int

    def __post_init__(self):
        if not self.cases:
            raise InputError("there is no case to draw patches from: add cases.")

    def __len__(self) -> int:
        """How many cases there are."""
        return len(self.cases)

    def at(self, step: int, rows: range) -> dict[str, np.ndarray]:
        """These rows of the batch of a step, counted from 0.

        Returns:
            image, float32 [b, *cut, c]; mask, int16 [b, *cut], -1 outside of the body and of the case; case, int32 [b],
            the position in the data set; place, int32 [b, 3], the first voxel of what was cut in the preprocessed case,
            which may lie before its first. For the second network of a cascade also previous, the first one's mask,
            int16 [b, *cut].
        """
        batch = patches.batch(self.cases, self.sampling, seed=self.seed, step=step, rows=rows)
        batch["case"] = self.positions[batch["case"]].astype(np.int32)
        return batch

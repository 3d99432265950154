"""The five folds that nnU-Net draws of a data set's cases, so that scores of its folds and ours are of the same cases.

Source: nnunetv2 2.8.1, utilities/crossval_split.py, which is KFold of scikit-learn.
"""

from collections.abc import Sequence

import numpy as np

from unet_jax.errors import InputError
from unet_jax.wording import count

FOLDS = 5
SEED = 12345


def folds_of(names: Sequence[str]) -> list[list[str]]:
    """The cases that each fold is validated on, by nnU-Net's word: what is scored, and trained on by the others.

    Args:
        names: of all cases, in any order, no two the same.

    Raises:
        InputError: there are fewer cases than folds.
    """
    if len(names) < FOLDS:
        raise InputError(
            f"config.data.split_by='nnunet' draws {FOLDS} folds, and the data have {count(len(names), 'case')}: add "
            "cases, or make it 'patient' with fewer config.data.folds."
        )
    ordered, places = sorted(names), np.arange(len(names))
    # Not default_rng: nnU-Net's draw comes from this generator.
    np.random.RandomState(SEED).shuffle(places)
    return [[ordered[place] for place in sorted(part.tolist())] for part in np.array_split(places, FOLDS)]

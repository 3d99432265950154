"""Where the foreground of a case is: voxels of each class, drawn once, for patches to be centred on.

The draw is that of nnunetv2 2.8.1, preprocessing/preprocessors/default_preprocessor.py.
"""

import math

import numpy as np
from jaxtyping import Int32, Integer

from unet_jax.plan.dataset import Dataset

SEED = 1234
# Of each class at least so many voxels, or all there are, and at least this share.
LEAST, SHARE = 10_000, 0.01

# A label, or the labels of a region.
Key = int | tuple[int, ...]
Locations = dict[Key, Int32[np.ndarray, "n 3"]]


def classes(dataset: Dataset) -> list[Key]:
    """What locations are drawn of: each label or region but the background.

    Where a label is ignored, the last key is (-1, 0, 1, …): every voxel that somebody labelled.
    """
    if dataset.regions is None:
        found: list[Key] = [number for number in dataset.numbers if number > 0]
    else:
        found = [region[0] if len(region) == 1 else region for region in dataset.regions]
    return found if dataset.ignored is None else [*found, (-1, *dataset.numbers)]


def locations(mask: Integer[np.ndarray, "d h w"], keys: list[Key]) -> Locations:
    """Some voxels of each class or region, the same ones every time.

    Args:
        mask: labels, -1 outside of the body.
        keys: in the order of the draw; see `classes`.

    Returns:
        Places of voxels, in the order of the draw; none of a class that is not there.
    """
    # Not default_rng: nnU-Net's draw comes from this generator.
    generator = np.random.RandomState(SEED)
    found = {}
    for key in keys:
        labels = sorted(set(key)) if isinstance(key, tuple) else [key]
        # In the order of labels, then of places.
        voxels = np.concatenate([np.flatnonzero(mask == label) for label in labels])
        if len(voxels):
            count = max(min(LEAST, len(voxels)), math.ceil(len(voxels) * SHARE))
            voxels = voxels[generator.choice(len(voxels), count, replace=False)]
        found[key] = np.stack(np.unravel_index(voxels, mask.shape), axis=1).astype(np.int32)
    return found

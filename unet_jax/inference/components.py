"""nnU-Net's post-processing: of some labels taken together, only the largest connected component stays.

Unlike `postprocess`, which cleans each class by itself, it may take all of the foreground as one.

Source: nnunetv2 2.8.1, postprocessing/remove_connected_components.py.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8, UInt16

from unet_jax.metrics import lesions
from unet_jax.metrics.nnunet_scores import Key, region

Mask = UInt8[np.ndarray, "d h w"] | UInt16[np.ndarray, "d h w"]
# Labels and regions that are taken together.
Step = tuple[Key, ...]


def keep_largest(mask: Mask, keys: Step) -> Mask:
    """The mask without all components of these labels' union but the largest, in voxels; equal ones all stay.

    Voxels are connected if they share a face, an edge or a corner; what is removed becomes 0.
    """
    union = region(mask, keys)
    components, _ = lesions.label(union.astype(np.uint8))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.where(union & (sizes[components] < sizes.max()), 0, mask).astype(mask.dtype)


def apply(mask: Mask, steps: Sequence[Step]) -> Mask:
    """The mask after `keep_largest` with each of `steps`, in their order."""
    for keys in steps:
        mask = keep_largest(mask, keys)
    return mask

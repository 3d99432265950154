"""What the second network of a cascade is given beside the image: the first one's mask, as channels.

Source: nnunetv2 2.8.1, preprocessing/preprocessors/default_preprocessor.py and inference/export_prediction.py.
"""

import numpy as np
from jaxtyping import Float, Integer, UInt8

from unet_jax.plan.crop import slices
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.preprocess import Geometry, spacing_of
from unet_jax.plan.resample import Shape, new_shape, resample_mask, resample_slabs
from unet_jax.plan.restore import decide


def from_mask(
    mask: Integer[np.ndarray, "d h w"], geometry: Geometry, plans: Plans, configuration: Configuration
) -> Integer[np.ndarray, "D H W"]:
    """In prediction: the first network's mask, in the files' geometry, as the second one's image is resampled.

    Args:
        mask: predicted.
        geometry: of the case, preprocessed for the second network.
        plans: of both.
        configuration: the second one's.
    """
    cropped = mask.transpose(plans.transpose_forward)[slices(geometry.box)]
    target = spacing_of(configuration, geometry)
    shape = new_shape(geometry.cropped, geometry.spacing, target)
    return resample_mask(cropped, shape, geometry.spacing, target, configuration.masks)


def from_logits(
    logits: Float[np.ndarray, "d h w k"], shape: Shape, first: Configuration, dataset: Dataset
) -> Integer[np.ndarray, "D H W"]:
    """In training: the first network's decision for a case, at the shape that the second one sees.

    nnU-Net names the first one's spacing as the present one and as the wanted one, so that it alone decides whether
    slices are resampled one by one; and so does this.

    Args:
        logits: of the first network.
        shape: of the case, preprocessed for the second one.
        first: the first one's configuration, of three axes.
        dataset: its labels or regions.
    """
    mask = np.empty(shape, np.uint16)
    for place, slab in resample_slabs(logits, shape, first.spacing, first.spacing, first.logits):
        mask[place] = decide(slab, dataset)
    return mask


def one_hot(mask: Integer[np.ndarray, "..."], dataset: Dataset) -> UInt8[np.ndarray, "... k"]:
    """A channel of 0 and 1 for each label but the background, also where the data set has regions."""
    return np.stack([mask == number for number in dataset.numbers if number > 0], axis=-1).astype(np.uint8)

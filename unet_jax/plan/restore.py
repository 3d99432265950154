"""The way back from preprocessing: logits to a mask or probabilities on the voxels of the case's own files.

The steps are those of nnunetv2 2.8.1, inference/export_prediction.py: resample logits, decide, paste, transpose.
"""

from collections.abc import Callable

import numpy as np
import scipy  # its parts are imported when first used: none before a run's first step
from jaxtyping import Float, Float32, Shaped, UInt8, UInt16

from unet_jax.errors import InputError
from unet_jax.plan.crop import slices
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.preprocess import Geometry, spacing_of
from unet_jax.plan.resample import resample_slabs
from unet_jax.plan.spacing import inverse

Logits = Float[np.ndarray, "d h w k"]


def to_mask(
    logits: Logits, geometry: Geometry, plans: Plans, configuration: Configuration, dataset: Dataset
) -> UInt8[np.ndarray, "D H W"] | UInt16[np.ndarray, "D H W"]:
    """The predicted mask of a case, in the files' geometry; 0 outside of the box that the case was cut to.

    Args:
        logits: one channel a label with the background, or one a region.
        geometry: of the preprocessed case.
        plans: the plan it was preprocessed by, and `configuration` that plan's.
        configuration: whose network predicted.
        dataset: its labels or regions.

    Raises:
        InputError: there are more or fewer channels than labels or regions.
    """
    whole = np.zeros(geometry.shape, label_type(dataset))
    _paste(whole, logits, geometry, configuration, dataset, lambda slab: decide(slab, dataset))
    return np.ascontiguousarray(whole.transpose(inverse(plans.transpose_forward)))


def to_probabilities(
    logits: Logits, geometry: Geometry, plans: Plans, configuration: Configuration, dataset: Dataset
) -> Float32[np.ndarray, "D H W k"]:
    """The predicted probabilities of a case, in the files' geometry; outside of the box it is background for certain.

    Args:
        logits: the type of `to_mask`, as all others.
        geometry: of the preprocessed case.
        plans: the plan it was preprocessed by, and `configuration` that plan's.
        configuration: whose network predicted.
        dataset: its labels or regions.

    Raises:
        InputError: as `to_mask`.
    """
    whole = np.zeros((*geometry.shape, logits.shape[-1]), np.float32)
    nonlinear: Callable = scipy.special.expit
    if dataset.regions is None:
        whole[..., 0] = 1
        nonlinear = _softmax
    _paste(whole, logits, geometry, configuration, dataset, nonlinear)
    return whole.transpose(*inverse(plans.transpose_forward), 3)


def decide(logits: Logits, dataset: Dataset) -> UInt8[np.ndarray, "d h w"] | UInt16[np.ndarray, "d h w"]:
    """The label of each voxel, by the largest logit.

    With regions, it is that of the last one, in the data set's order, whose probability is above one half.
    """
    if dataset.regions is None:
        return logits.argmax(axis=-1).astype(label_type(dataset))
    mask = np.zeros(logits.shape[:-1], label_type(dataset))
    for region, label in enumerate(dataset.regions_order):
        mask[scipy.special.expit(logits[..., region]) > 0.5] = label
    return mask


def label_type(dataset: Dataset) -> type:
    """The type of predicted masks, nnU-Net's."""
    largest = max((*dataset.numbers, *(dataset.regions_order or ())))
    return np.uint8 if largest < np.iinfo(np.uint8).max else np.uint16


def check_channels(channels: int, dataset: Dataset) -> None:
    """Raises InputError unless there are as many channels of logits as labels or regions."""
    if channels != dataset.outputs:
        raise InputError(f"there are {channels} channels of logits, and dataset.json asks for {dataset.outputs}.")


def _paste(
    whole: Shaped[np.ndarray, "..."],
    logits: Logits,
    geometry: Geometry,
    configuration: Configuration,
    dataset: Dataset,
    convert: Callable[[Logits], Shaped[np.ndarray, "..."]],
) -> None:
    """A slab at a time: the logits of a large case with many labels are never held at the files' size."""
    check_channels(logits.shape[-1], dataset)
    inner = whole[slices(geometry.box)]
    present, target = spacing_of(configuration, geometry), geometry.spacing
    for place, slab in resample_slabs(logits, geometry.cropped, present, target, configuration.logits):
        inner[place] = convert(slab)


def _softmax(slab: Logits) -> Float[np.ndarray, "d h w k"]:
    return scipy.special.softmax(slab, axis=-1)

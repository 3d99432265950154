"""What is written for a case: its mask and, if asked for, the probabilities of each class."""

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from unet_jax.data import regions
from unet_jax.data.labels import LabelMap, class_values, to_values


def kinds(probabilities: bool, classes: LabelMap | None) -> tuple[str, ...]:
    """The ends of the files' names: "mask", and "probability", or "probability_2" for the class with the value 2."""
    if not probabilities:
        return ("mask",)
    return (
        ("mask", *(f"probability_{value}" for value in class_values(classes))) if classes else ("mask", "probability")
    )


def as_labels(
    mask: UInt8[np.ndarray, "d h w"], classes: LabelMap | None
) -> UInt8[np.ndarray, "d h w"] | UInt16[np.ndarray, "d h w"]:
    """The mask; of several classes, with their values in place of their numbers."""
    return to_values(mask, classes) if classes else mask


def of_each(
    probability: Float32[np.ndarray, "d h w"] | Float32[np.ndarray, "d h w k"] | None, classes: LabelMap | None
) -> list[Float32[np.ndarray, "d h w"]]:
    """The probabilities of each class, without the background; an empty list for None."""
    if probability is None:
        return []
    if probability.ndim == 3:
        return [probability]
    return list(np.moveaxis(without_background(probability, classes or {}), -1, 0))


def without_background(
    probability: Float32[np.ndarray, "d h w k"], classes: LabelMap
) -> Float32[np.ndarray, "d h w n"]:
    """The probabilities of each of several classes; those that overlap come without a background."""
    return probability if regions.overlap(classes) else probability[..., 1:]

"""Pixel weights from masks, in numpy: those of Ronneberger et al. 2015 (section 3)."""

import math
from collections.abc import Iterable

import numpy as np
import scipy  # its parts are imported when first used: none before a run's first step
from jaxtyping import Float32, UInt8


def balanced_class_weights(masks: Iterable[UInt8[np.ndarray, "..."]]) -> tuple[float, float]:
    """Weights w_c of (background, foreground) with which both have the same total weight over all masks.

    Each is pixels / (2 × pixels of the class), so that the mean weight of a pixel is 1. Both are 1 if the masks, of 0
    and 1, lack one of the classes.
    """
    pixels = foreground = 0
    for mask in masks:
        pixels += mask.size
        foreground += int(np.count_nonzero(mask))
    if foreground in (0, pixels):
        return 1.0, 1.0
    return pixels / (2 * (pixels - foreground)), pixels / (2 * foreground)


def border_weight_map(
    mask: UInt8[np.ndarray, "*spatial"],
    class_weights: tuple[float, float] = (1.0, 1.0),
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
) -> Float32[np.ndarray, "*spatial"]:
    """The weights w_c + w0 exp(-(d1 + d2)² / (2 sigma²)), the second term on the background only.

    d1 and d2 are the distances, in pixels, to the nearest and to the second nearest object: weights are high in narrow
    gaps. An object is a connected component of the mask, connected through the faces of its pixels. With fewer than two
    objects, only w_c remains. The defaults are the paper's.

    Args:
        mask: 0 and 1, of any rank.
        class_weights: w_c of (background, foreground): `balanced_class_weights` of the training masks.
        w0: weight that a gap of width 0 would add.
        sigma: how slowly that falls with the width of the gap, in pixels.
    """
    objects, _ = scipy.ndimage.label(mask)
    nearest, second = np.full((2, *mask.shape), np.inf)
    # Farther than seven sigma from an object, the term is below w0 × 3e-11, which float32 loses beside w_c.
    margin = math.ceil(7 * sigma)
    for number, box in enumerate(scipy.ndimage.find_objects(objects), start=1):
        window = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in box)
        distance = scipy.ndimage.distance_transform_edt(objects[window] != number)
        second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
        nearest[window] = np.minimum(nearest[window], distance)
    border = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return np.where(mask == 0, class_weights[0] + border, class_weights[1]).astype(np.float32)

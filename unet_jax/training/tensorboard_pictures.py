"""Slices of validated cases for TensorBoard, with the outlines of true and predicted masks."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from unet_jax import colours
from unet_jax.colours import rgb
from unet_jax.data import labels
from unet_jax.data.case import Case
from unet_jax.report import packed_masks
from unet_jax.report.case_view import to_grey
from unet_jax.report.packed_masks import PackedMask

CASES = 4
# The longer side of a picture has at least so many pixels.
SIDE = 384
# The true outline is wider, so that it is seen behind the predicted one.
TRUE, TRUE_WIDTH = rgb(colours.TRUE), 3
PREDICTED, PREDICTED_WIDTH = rgb(colours.PREDICTED), 1


def draw(
    cases: Sequence[Case], predicted: Mapping[int, PackedMask], channel: int
) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    """Draws one slice each of a few cases: the one with the most tumour in the true mask, whatever was predicted.

    Args:
        cases: of the data set.
        predicted: masks by position in `cases`.
        channel: the one to show in grey; the last one where there are fewer.

    Returns:
        RGB by title: the case's name and the slice's number from 1. The true outline is green, the predicted orange.
    """
    positions = sorted(predicted)
    spread = np.linspace(0, len(positions) - 1, min(CASES, len(positions)))
    drawn = {}
    for place in np.rint(spread).astype(int):
        case, packed = cases[positions[place]], predicted[positions[place]]
        marked = case.mask[packed.numbers]
        truth = labels.without_ignored(marked) > 0
        row = int(truth.sum((1, 2)).argmax())
        number = int(packed.numbers[row])
        found = labels.where_labelled(packed_masks.unpack(packed)[row], marked[row])
        shown = np.asarray(case.image[number : number + 1, :, :, min(channel, case.image.shape[-1] - 1)])
        drawn[f"{case.name}/slice {number + 1}"] = outlined(
            to_grey(shown)[0], truth[row].astype(np.uint8), (found > 0).astype(np.uint8)
        )
    return drawn


def outlined(
    picture: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "r c 3"]:
    """The picture, enlarged by repeating pixels, with the outlines of both masks, which hold 0 and 1."""
    times = -(-SIDE // max(picture.shape))
    canvas = cv2.cvtColor(_enlarged(picture, times), cv2.COLOR_GRAY2RGB)
    for mask, colour, width in ((truth, TRUE, TRUE_WIDTH), (predicted, PREDICTED, PREDICTED_WIDTH)):
        borders, _ = cv2.findContours(_enlarged(mask, times), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, borders, -1, colour, width)
    return canvas


def _enlarged(picture: UInt8[np.ndarray, "h w"], times: int) -> UInt8[np.ndarray, "r c"]:
    return np.ascontiguousarray(picture.repeat(times, 0).repeat(times, 1))

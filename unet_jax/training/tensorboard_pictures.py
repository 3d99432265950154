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
from unet_jax.report.case_view import brightness, to_grey
from unet_jax.report.packed_masks import PackedMask

CASES = 4
# The longer side of a slice has at least so many pixels.
SIDE = 512
TRUE, PREDICTED = rgb(colours.TRUE), rgb(colours.PREDICTED)
# Pixels: the width of both outlines, and of the predicted one's dashes and gaps, as on the report's page.
WIDTH, DASH, GAP = 2, 12, 8
# Pixels below the slice for the key.
KEY = 28


def draw(
    cases: Sequence[Case], predicted: Mapping[int, PackedMask], channel: int
) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    """Draws one slice each of a few cases: the one with the most tumour in the true mask, whatever was predicted.

    Args:
        cases: of the data set.
        predicted: masks by position in `cases`.
        channel: the one to show in grey; the last one where there are fewer.

    Returns:
        RGB by title: the case's name and the slice's number from 1. Contrast is stretched; the true outline is green,
        the predicted one orange and dashed, and a key below says so.
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
        grey = to_grey(shown)
        stretched = np.clip(np.rint(grey[0] * brightness(grey)), 0, 255).astype(np.uint8)
        masks = truth[row].astype(np.uint8), (found > 0).astype(np.uint8)
        drawn[f"{case.name}/slice {number + 1}"] = with_key(outlined(stretched, *masks))
    return drawn


def outlined(
    picture: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "r c 3"]:
    """The picture, enlarged by repeating pixels, with the outlines of both masks, which hold 0 and 1."""
    times = -(-SIDE // max(picture.shape))
    canvas = cv2.cvtColor(_enlarged(picture, times), cv2.COLOR_GRAY2RGB)
    cv2.drawContours(canvas, _borders(truth, times), -1, TRUE, WIDTH)
    for border in _borders(predicted, times):
        _draw_dashed(canvas, border)
    return canvas


def with_key(picture: UInt8[np.ndarray, "r c 3"]) -> UInt8[np.ndarray, "rows c 3"]:
    """The picture, with a strip below that says which outline is which."""
    strip = np.zeros((KEY, picture.shape[1], 3), np.uint8)
    middle = KEY // 2
    for left, colour, name in ((8, TRUE, "true"), (108, PREDICTED, "predicted")):
        ends = [(left, left + 30)] if colour == TRUE else [(left, left + DASH), (left + DASH + GAP, left + 30)]
        for start, end in ends:
            cv2.line(strip, (start, middle), (end, middle), colour, WIDTH)
        cv2.putText(strip, name, (left + 38, middle + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255,) * 3, 1, cv2.LINE_AA)
    return np.concatenate([picture, strip])


def _borders(mask: UInt8[np.ndarray, "h w"], times: int) -> Sequence[np.ndarray]:
    return cv2.findContours(_enlarged(mask, times), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]


def _draw_dashed(canvas: UInt8[np.ndarray, "r c 3"], border: np.ndarray) -> None:
    """A closed border, of neighbouring pixels, that begins with a dash."""
    for start in range(0, len(border), DASH + GAP):
        cv2.polylines(canvas, [border[start : start + DASH]], isClosed=False, color=PREDICTED, thickness=WIDTH)


def _enlarged(picture: UInt8[np.ndarray, "h w"], times: int) -> UInt8[np.ndarray, "r c"]:
    return np.ascontiguousarray(picture.repeat(times, 0).repeat(times, 1))

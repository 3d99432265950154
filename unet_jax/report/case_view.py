"""A case as the report's page shows it: slices as compressed pictures, masks as outlines, areas by slice."""

import base64
import json
from collections.abc import Callable, Iterable

import cv2
import numpy as np
from jaxtyping import Float32, Int, UInt8

from unet_jax.data import labels, regions
from unet_jax.data.case import Case
from unet_jax.data.regions import Classes, Members
from unet_jax.metrics import overlap

# JPEG: every browser shows it, and a slice of 256x256 is done in 0.3 ms. At 75, LGG's are 41 dB from the originals
# and take 6.7 kB each in the page; as WebP they would take a third less, and 15 times as long.
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 75, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
LONGEST_SIDE = 512

# a case, the numbers of its scored slices, their final masks
Scored = tuple[Case, Int[np.ndarray, " s"], UInt8[np.ndarray, "s h w"]]


def within_budget(
    scored: Iterable[Scored],
    budget: int,
    classes: Classes = (),
    edges_of: Callable[[Case], str | None] = lambda case: None,
) -> dict[str, str]:
    """`describe` of the first cases, as JSON by the case's name, of at most `budget` characters together."""
    texts: dict[str, str] = {}
    for case, numbers, mask in scored:
        text = json.dumps(describe(case, numbers, mask, classes, edges_of(case)), separators=(",", ":"))
        budget -= len(text)
        if budget < 0:
            break
        texts[case.name] = text
    return texts


def describe(
    case: Case,
    numbers: Int[np.ndarray, " s"],
    predicted: UInt8[np.ndarray, "s h w"],
    classes: Classes = (),
    edges: str | None = None,
) -> dict:
    """All that the viewer needs of a case.

    Args:
        case: with its mask.
        numbers: of the slices that were scored.
        predicted: their final masks of 0 and 1, or of the numbers of several classes.
        classes: several; empty for one.
        edges: the sides of the patient at the edges of a slice, as `orientation.edges` has them.

    Returns:
        `numbers`; `slices` of the whole case; `size` (rows, columns) of the files; `aspect`, width by height in mm
        where spacing is known; `mm2`, the area of a pixel, and `mm`, the width of a slice, or None; `edges`;
        `pictures`, JPEG in base64 by sequence and slice; `brightness` by sequence; `true` and `predicted`, the outlines
        by slice; `counts`, (true positive, false positive, false negative) pixels by slice. Of several classes,
        outlines and counts are by slice and class.
    """
    image, marked = np.asarray(case.image), np.asarray(case.mask)
    if len(numbers) < len(image):  # of a whole case, which may be large, nothing is copied
        image, marked = image[numbers], marked[numbers]
    predicted, truth = labels.where_labelled(predicted, marked), labels.without_ignored(marked)
    rows, columns = image.shape[1:3]
    sequences = [to_grey(image[..., channel]) for channel in range(image.shape[-1])]
    members = regions.members(classes) if classes else None
    counts = overlap.count_classes(predicted, truth, members) if members else overlap.count(predicted, truth)
    height, width = (1.0, 1.0) if case.spacing is None else case.spacing[1:]
    return {
        "numbers": numbers.tolist(),
        "slices": len(case.image),
        "size": [rows, columns],
        "aspect": columns * width / (rows * height),
        "mm2": None if case.spacing is None else height * width,
        "mm": None if case.spacing is None else columns * width,
        "edges": edges,
        "pictures": [[base64.b64encode(compress(picture)).decode() for picture in pictures] for pictures in sequences],
        "brightness": [round(brightness(pictures), 2) for pictures in sequences],
        "true": [_outlines(mask, members) for mask in truth],
        "predicted": [_outlines(mask, members) for mask in predicted],
        "counts": counts.tolist(),
    }


def to_grey(sequence: UInt8[np.ndarray, "d h w"] | Float32[np.ndarray, "d h w"]) -> UInt8[np.ndarray, "d h w"]:
    """Eight bits as they are; else the middle 99 % of the intensities spread over black to white."""
    if sequence.dtype == np.uint8:
        return sequence
    low, high = np.percentile(_sample(sequence), [0.5, 99.5])
    grey = np.empty(sequence.shape, np.uint8)
    for number, one in enumerate(sequence):  # because a case may be large
        grey[number] = np.clip(np.rint((one - low) * (255 / (high - low or 1))), 0, 255)
    return grey


def brightness(sequence: UInt8[np.ndarray, "d h w"]) -> float:
    """The factor, from 1 to 4, by which the viewer brightens a case so that its brightest 0.5 % are white.

    Brighter pictures would not show more, and as files they are a third larger.
    """
    return float(np.clip(255 / max(np.percentile(_sample(sequence), 99.5), 1), 1, 4))


def _sample(sequence: np.ndarray) -> np.ndarray:
    return sequence[:, ::4, ::4]


def compress(picture: UInt8[np.ndarray, "h w"]) -> bytes:
    """A JPEG in shades of grey, not longer than `LONGEST_SIDE` pixels on either side."""
    shrink = LONGEST_SIDE / max(picture.shape)
    if shrink < 1:
        size = tuple(max(round(side * shrink), 1) for side in picture.shape[::-1])
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture), JPEG)
    return data.tobytes()


def _outlines(mask: UInt8[np.ndarray, "h w"], members: Members | None) -> str | list[str]:
    if members is None:
        return outline(mask)
    return [outline(regions.marked(mask, its).astype(np.uint8)) for its in members]


def outline(mask: UInt8[np.ndarray, "h w"]) -> str:
    """The mask's borders along the edges of its pixels, as SVG path data in half pixels; "" for an empty mask.

    A grid of half pixels has the corners of pixels on even lines and their middles on odd ones. A pixel covers the
    nine points from corner to corner, so that borders through the outermost points run along pixel edges.
    """
    left, top, columns, rows = cv2.boundingRect(mask)
    if not columns:
        return ""
    points = np.zeros((2 * rows + 1, 2 * columns + 1), np.uint8)
    points[1::2, 1::2] = mask[top : top + rows, left : left + columns]
    points = cv2.dilate(points, np.ones((3, 3), np.uint8))
    borders, _ = cv2.findContours(points, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(2 * left, 2 * top))
    return "".join(_path(border[:, 0].astype(int)) for border in borders)


def _path(border: Int[np.ndarray, "n 2"]) -> str:
    (x, y), steps = border[0].tolist(), np.diff(border, axis=0).tolist()
    return f"M{x} {y}l" + " ".join(f"{right} {down}" for right, down in steps) + "z"

"""Which share of a mask lies outside of what its image shows: where it is 0, or in the air around a body.

Air has no number of its own: it is -1000 in a CT, -1024 where the scanner cuts it off, anything once an image is
stretched, and -2000 or -3024 is what lies beyond a CT's round field of view. So what is outside is found by where it
lies: the lowest level that reaches the slice's border, and what lies against that and is of one level itself.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

Image = UInt8[np.ndarray, "d h w c"] | Float32[np.ndarray, "d h w c"]

# Slices in which levels are looked for.
SLICES = 16
# Of a channel's range: how far the middle half of a level of air may spread, and up to where above its median it goes.
SPREAD, REACH = 0.05, 0.1
# The share of the slices' borders that is outside where a body lies in air.
SURROUNDED = 0.5
# The share of voxels of exactly the lowest value from which on it is padding.
PADDED = 0.01
KERNEL = np.ones((5, 5), np.uint8)


def share(image: Image, mask: UInt8[np.ndarray, "d h w"]) -> float:
    """The share of the marked voxels that are outside in every channel; 0 where nothing is marked."""
    areas = np.count_nonzero(mask, axis=(1, 2))
    if not areas.any():
        return 0.0
    levels = [_levels(image[..., channel]) for channel in range(image.shape[-1])]
    count = 0
    for number in np.flatnonzero(areas).tolist():
        outside = mask[number] != 0
        for channel, of_channel in enumerate(levels):
            outside &= _outside(image[number, ..., channel], of_channel)
        count += int(np.count_nonzero(outside))
    return count / int(areas.sum())


def _levels(channel: np.ndarray) -> list[tuple[float, float]] | None:
    """The ranges of values that are outside where they reach a slice's border; None where 0 alone is outside."""
    if channel.dtype == np.uint8 or len(channel) == 1:
        return None
    some = channel[np.unique(np.linspace(0, len(channel) - 1, SLICES).astype(int))]
    lowest, highest = float(some.min()), float(np.percentile(some, 99.5))
    if not highest > lowest:
        return None
    is_padded = bool(np.count_nonzero(some == lowest) >= PADDED * some.size)
    against = [_against(one, lowest) if is_padded else _border(one) for one in some]
    air = _air(np.concatenate(against), lowest, highest)
    levels = [(lowest, lowest)] * is_padded + [air] * (air is not None)
    border = np.concatenate([_border(_reached(one, levels)) for one in some])
    return levels if border.mean() >= SURROUNDED else None


def _against(one: np.ndarray, padding: float) -> np.ndarray:
    """The values of what lies against padding."""
    padded = (one == padding).astype(np.uint8)
    return one[(cv2.dilate(padded, KERNEL) == 1) & (padded == 0)]


def _air(values: np.ndarray, lowest: float, highest: float) -> tuple[float, float] | None:
    """The level of values where air should be; None of many values, as a body has that was cut out."""
    if not values.size:
        return None
    low, median, high = np.percentile(values, [25, 50, 75])
    is_level = high - low <= SPREAD * (highest - lowest)
    return (lowest, float(median) + REACH * (highest - lowest)) if is_level else None


def _reached(one: np.ndarray, levels: list[tuple[float, float]]) -> Bool[np.ndarray, "h w"]:
    """Pixels of these levels that hang together with the slice's border."""
    dark = np.zeros(one.shape, np.uint8)
    for low, high in levels:
        dark |= ((one >= low) & (one <= high)).astype(np.uint8)
    count, parts = cv2.connectedComponents(dark, connectivity=4)
    reached = np.zeros(count, bool)
    reached[np.unique(_border(parts))] = True
    reached[0] = False
    return reached[parts]


def _border(one: np.ndarray) -> np.ndarray:
    return np.concatenate([one[0], one[-1], one[:, 0], one[:, -1]])


def _outside(one: np.ndarray, levels: list[tuple[float, float]] | None) -> Bool[np.ndarray, "h w"]:
    return one == 0 if levels is None else (one == 0) & (min(levels)[0] >= 0) | _reached(one, levels)

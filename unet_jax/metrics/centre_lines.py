"""clDice (Shit et al. 2021): how well the centre lines of vessels, fibres or membranes in two pictures agree."""

import numpy as np
from jaxtyping import Bool, UInt8


def cldice(predicted: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> float | None:
    """2 P S / (P + S), from 0 to 1.

    P is the share of the prediction's centre line within the truth, S that of the truth's within the prediction, as
    `losses.cldice` has them, but of whole pixels.

    Args:
        predicted: 0 and 1.
        truth: 0 and 1.

    Returns:
        0 if one of the masks is empty, None if both are.
    """
    lines = skeleton(predicted), skeleton(truth)
    found, existing = (int(np.count_nonzero(line)) for line in lines)
    if not found or not existing:
        return 0.0 if found or existing else None
    precision = np.count_nonzero(lines[0] & truth) / found
    sensitivity = np.count_nonzero(lines[1] & predicted) / existing
    return 2 * precision * sensitivity / (precision + sensitivity) if precision and sensitivity else 0.0


def skeleton(mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The centre lines of a mask, both of 0 and 1: a pixel wide, in as many connected parts as the mask.

    The thinning of Guo & Hall 1989 (algorithm A1): pixels of the border go, from the one side and then from the other,
    as long as that neither parts what is connected nor shortens a line. Beyond the picture is background.
    """
    padded = np.pad(mask > 0, 1)
    flat, width = padded.reshape(-1), padded.shape[1]
    # The eight neighbours, clockwise from the one above.
    around = np.array([-width, 1 - width, 1, 1 + width, width, width - 1, -1, -1 - width])
    thinner = True
    while thinner:
        thinner = False
        for side in (around, np.roll(around, 4)):
            places = np.flatnonzero(flat)
            north, north_east, east, south_east, south, south_west, west, north_west = flat[places + side[:, None]]
            # How many parts the neighbours are in; where it is more than one, the pixel connects them.
            parts = _sum(
                ~north & (north_east | east),
                ~east & (south_east | south),
                ~south & (south_west | west),
                ~west & (north_west | north),
            )
            # How many neighbours there are, at most two of a pair counting as one: 1 is a line's end.
            neighbours = np.minimum(
                _sum(north_west | north, north_east | east, south_east | south, south_west | west),
                _sum(north | north_east, east | south_east, south | south_west, west | north_west),
            )
            on_this_side = ~(west & (south | south_west | ~north_west))
            gone = places[(parts == 1) & (neighbours >= 2) & (neighbours <= 3) & on_this_side]
            flat[gone] = False
            thinner |= len(gone) > 0
    return padded[1:-1, 1:-1].astype(np.uint8)


def _sum(*conditions: Bool[np.ndarray, " n"]) -> np.ndarray:
    """How many of them hold, for each pixel."""
    return np.sum(conditions, axis=0)

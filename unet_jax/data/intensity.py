"""Intensities of a volume on one scale, whatever the scanner: the one place where it is done, for every source."""

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.errors import InputError

MODES = ("auto", "range", "volume")
# Percent of the voxels that end at 0 and at 1: the darkest and the brightest are noise, vessels and artefacts.
LOW, HIGH = 0.5, 99.5

Image = UInt8[np.ndarray, "d h w c"] | Float32[np.ndarray, "d h w c"]


def check_mode(mode: str) -> None:
    """Raises InputError unless `mode` is one of MODES."""
    if mode not in MODES:
        raise InputError(f"config.data.intensity is {mode!r}; it must be one of {', '.join(MODES)}.")


def normalise(image: Image, mode: str) -> Image:
    """The image of one case as the network is to see it, in the type that it had.

    "range" changes nothing: 0 to 255 later becomes 0 to 1, and floats are taken as they are. "volume" stretches each
    channel by itself from its percentiles LOW and HIGH to the full range (uint8: 0 to 255, float32: 0 to 1) and cuts
    off what lies beyond. Where no value is negative, zeros are no tissue and do not count; they stay 0, as padding is.
    "auto" is "range" for uint8, which somebody has already windowed, and "volume" for all else.

    Percentiles rather than z-scores, so that intensities stay in [0, 1], where augmentation and padding want them, and
    8-bit images stay 8 bits. On LGG's FLAIR the two separate tumour from other tissue over all patients equally well.
    """
    if mode == "range" or (mode == "auto" and image.dtype == np.uint8):
        return image
    result = np.zeros(image.shape, image.dtype)
    for channel in range(image.shape[-1]):
        _stretch(image[..., channel], result[..., channel])
    return result


def _stretch(channel: np.ndarray, result: np.ndarray) -> None:
    """Fills `result`, which comes as zeros."""
    values = channel[channel != 0] if channel.min() >= 0 else channel
    if not values.size:
        return
    low, high = np.percentile(values, [LOW, HIGH])
    top = 255 if channel.dtype == np.uint8 else 1
    # float64, where no range overflows, for a slice at a time: a volume may be large.
    for number, one in enumerate(channel):
        share = np.clip((one.astype(np.float64) - low) / ((high - low) or 1), 0, 1) * top
        result[number] = np.rint(share) if top == 255 else share

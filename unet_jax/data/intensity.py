"""Intensities on one scale, whatever the scanner: the one place where this is done, for every source."""

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.errors import InputError

MODES = ("auto", "range", "volume")
# The percentiles that become 0 and 1. Voxels beyond them are noise, vessels and artefacts.
LOW, HIGH = 0.5, 99.5

Image = UInt8[np.ndarray, "d h w c"] | Float32[np.ndarray, "d h w c"]


def check_mode(mode: str) -> None:
    """Raises InputError unless `mode` is one of MODES."""
    if mode not in MODES:
        raise InputError(f"config.data.intensity is {mode!r}; it must be one of {', '.join(MODES)}.")


def normalise(image: Image, mode: str) -> Image:
    """The image of one case with its intensities as the network sees them, in the image's own type.

    "range" changes nothing: 0 to 255 later becomes 0 to 1, and floats stay as they are. "volume" stretches each channel
    separately from its percentiles LOW and HIGH to the full range (uint8: 0 to 255, float32: 0 to 1) and clips what
    lies beyond. In a channel without negative values, zeros are background: the percentiles leave them out, and they
    stay 0, like padding. "auto" means "range" for uint8, which has already been windowed, and "volume" for all else.

    Percentiles rather than z-scores keep intensities in [0, 1], as augmentation and padding expect, and 8-bit images in
    8 bits. On LGG's FLAIR both separate tumour from other tissue equally well over all patients.
    """
    if mode == "range" or (mode == "auto" and image.dtype == np.uint8):
        return image
    result = np.empty(image.shape, image.dtype)
    # The result first holds the values that percentiles are taken of: a volume may be large.
    ranges = [_range(image[..., channel], result.reshape(-1)) for channel in range(image.shape[-1])]
    result[...] = 0
    for channel, of_channel in enumerate(ranges):
        if of_channel is not None:
            _stretch(image[..., channel], *of_channel, result[..., channel])
    return result


def for_display(image: Image) -> Image:
    """The image as pictures show it: 8 bits and floats from 0 to 1 as they are, others stretched as "volume" does."""
    if image.dtype == np.uint8 or (image.min() >= 0 and image.max() <= 1):
        return image
    return normalise(image, "volume")


def _range(channel: np.ndarray, room: np.ndarray) -> tuple[float, float] | None:
    """The percentiles LOW and HIGH, or None of a channel that is 0 throughout; `room` takes the channel's values."""
    count, without_zeros = 0, channel.min() >= 0
    for one in channel:
        values = one[one != 0] if without_zeros else one.ravel()
        room[count : count + len(values)] = values
        count += len(values)
    if not count:
        return None
    low, high = np.percentile(room[:count], [LOW, HIGH], overwrite_input=True)
    return low, high


def _stretch(channel: np.ndarray, low: float, high: float, result: np.ndarray) -> None:
    """Writes the stretched channel to `result`."""
    top = 255 if channel.dtype == np.uint8 else 1
    # In float64 no range overflows; slice by slice, because a volume may be large.
    for number, one in enumerate(channel):
        share = np.clip((one.astype(np.float64) - low) / ((high - low) or 1), 0, 1) * top
        result[number] = np.rint(share) if top == 255 else share

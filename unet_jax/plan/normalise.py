"""Intensities of a cropped case on one scale, by the scheme that the plan has for each channel.

The schemes are those of nnunetv2 2.8.1, preprocessing/normalization/default_normalization_schemes.py.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Integer, Num

from unet_jax.errors import InputError
from unet_jax.plan.intensities import Intensities
from unet_jax.wording import count

# What a spread of zero is replaced by.
LEAST = 1e-8

Channel = Float32[np.ndarray, "d h w"]


def normalise(
    image: Num[np.ndarray, "d h w c"],
    mask: Integer[np.ndarray, "d h w"],
    schemes: Sequence[str],
    inside_only: Sequence[bool],
    intensities: Sequence[Intensities],
) -> Float32[np.ndarray, "d h w c"]:
    """A normalised copy of an image.

    By scheme: "zscore" has mean 0 and standard deviation 1; "ct" is cut off to the percentiles 0.5 and 99.5 of the
    data set's foreground, and has its mean and standard deviation; "rescale" runs from 0 to 1; "rgb" is divided by
    255; "none" is as it was.

    Args:
        image: of the files' range, cropped.
        mask: below 0 outside of the body.
        schemes: of each channel, a name of `normalisation.NNUNET`.
        inside_only: of each channel, whether a z-score is of the inside of the body alone; then the outside stays as
            it was.
        intensities: of each channel's foreground; "ct" alone asks.

    Raises:
        InputError: a channel is to be "rgb", and its values are not from 0 to 255; or the plan is for another number of
            channels.
    """
    if image.shape[-1] != len(schemes):
        raise InputError(
            f"the image has {count(image.shape[-1], 'channel')}, and the plan {len(schemes)}: give it all of them."
        )
    result = np.array(image, np.float32)
    for index, scheme in enumerate(schemes):
        channel = result[..., index]
        if scheme == "zscore":
            _zscore(channel, mask >= 0 if inside_only[index] else None)
        elif scheme == "ct":
            _ct(channel, intensities[index])
        elif scheme == "rescale":
            low, high = channel.min(), channel.max()
            channel -= low
            channel /= max(high - low, LEAST)
        elif scheme == "rgb":
            _rgb(channel, index)
    return result


def _zscore(channel: Channel, inside: Bool[np.ndarray, "d h w"] | None) -> None:
    voxels = channel.size if inside is None else np.count_nonzero(inside)
    if not voxels:
        return
    # Slice by slice: in float64, a whole volume is twice its own size.
    places = [(at, ...) if inside is None else (at, inside[at]) for at in range(len(channel))]
    mean = sum(float(channel[place].sum(dtype=np.float64)) for place in places) / voxels
    spread = sum(float(((channel[place].astype(np.float64) - mean) ** 2).sum()) for place in places) / voxels
    for place in places:
        channel[place] = (channel[place] - mean) / max(spread**0.5, LEAST)


def _ct(channel: Channel, of: Intensities) -> None:
    np.clip(channel, of.percentile_00_5, of.percentile_99_5, out=channel)
    channel -= of.mean
    channel /= max(of.std, LEAST)


def _rgb(channel: Channel, index: int) -> None:
    low, high = channel.min(), channel.max()
    if low < 0 or high > 255:
        raise InputError(
            f"channel {index} has values from {low:g} to {high:g}, and the plan takes it for 8-bit colours "
            "(rgb_to_0_1): name it otherwise in dataset.json and plan again."
        )
    channel /= 255

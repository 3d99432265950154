"""How the intensities of each channel are normalised, chosen by the channel's name.

Source: nnunetv2 2.8.1, preprocessing/normalization/map_channel_name_to_normalization.py and the planner.
"""

from collections.abc import Sequence

# By a channel's name in small letters, whole: "CT_venous" is a z-score.
BY_NAME = {"ct": "ct", "nonorm": "none", "zscore": "zscore", "rescale_to_0_1": "rescale", "rgb_to_0_1": "rgb"}
# nnU-Net's names of the schemes.
NNUNET = {
    "zscore": "ZScoreNormalization",
    "ct": "CTNormalization",
    "none": "NoNormalization",
    "rescale": "RescaleTo01Normalization",
    "rgb": "RGBTo01Normalization",
}
# Where cropping leaves less than this part of the median case, the outside of the body does not count.
CROPPED = 0.75


def choose(channels: Sequence[str], relative_size: float) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Each channel's scheme, and whether it takes its statistics from the inside of the body alone.

    Args:
        channels: names, such as "CT" or "T2"; one that is not known is a z-score.
        relative_size: the part of the median case that cropping leaves.
    """
    schemes = tuple(BY_NAME.get(name.casefold(), "zscore") for name in channels)
    return schemes, tuple(scheme == "zscore" and relative_size < CROPPED for scheme in schemes)

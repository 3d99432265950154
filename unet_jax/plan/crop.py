"""The part of a scan that holds something: its smallest box, and which voxels of the box lie outside of the body."""

import numpy as np
import scipy  # its parts are imported when first used: none before a run's first step
from jaxtyping import Bool, Int8, Int16, Num

# As nnU-Net does it: nnunetv2 2.8.1, preprocessing/cropping/cropping.py.
OUTSIDE = -1

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def crop_to_nonzero(
    image: Num[np.ndarray, "d h w c"], mask: Num[np.ndarray, "d h w"] | None
) -> tuple[Num[np.ndarray, "D H W c"], Int8[np.ndarray, "D H W"] | Int16[np.ndarray, "D H W"], Box]:
    """Cuts an image and its mask to the smallest box that holds every voxel with a channel other than 0.

    Inside of the box, a voxel lies outside of the body where all channels are 0 and no other voxels enclose it in 3-D.
    There the mask becomes -1, unless it has a label. Without a mask, the inside is 0.

    Args:
        image: of any type and range; a view of it comes back.
        mask: labels from 0; it is copied.

    Returns:
        The image and the mask inside of the box, and the box. An image of nothing but zeros is kept whole.
    """
    nonzero = _any_channel(image)
    box = bounding_box(nonzero)
    inside = _fill_holes(nonzero[slices(box)])
    if mask is None:
        labels = np.where(inside, np.int8(0), np.int8(OUTSIDE))
    else:
        labels = _signed(mask[slices(box)])
        labels[(labels == 0) & ~inside] = OUTSIDE
    return image[slices(box)], labels, box


def bounding_box(nonzero: Bool[np.ndarray, "d h w"]) -> Box:
    """The smallest half-open box that holds every True; the whole volume where there is none."""
    rows = nonzero.any(axis=2)
    lines = rows.any(axis=1), rows.any(axis=0), nonzero.any(axis=(0, 1))
    return tuple(_range(line) for line in lines)


def slices(box: Box) -> tuple[slice, slice, slice]:
    """A box as an index of an array."""
    return tuple(slice(start, stop) for start, stop in box)


def _range(line: Bool[np.ndarray, " n"]) -> tuple[int, int]:
    found = np.flatnonzero(line)
    return (int(found[0]), int(found[-1]) + 1) if found.size else (0, len(line))


def _any_channel(image: Num[np.ndarray, "d h w c"]) -> Bool[np.ndarray, "d h w"]:
    # Channel by channel: reducing over a last axis of a few entries is several times slower.
    nonzero = image[..., 0] != 0
    for channel in range(1, image.shape[-1]):
        nonzero |= image[..., channel] != 0
    return nonzero


def _fill_holes(nonzero: Bool[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    # The box's own faces are as good as the volume's: whatever lies beyond them is 0 and reaches the volume's edge.
    return nonzero if nonzero.all() else scipy.ndimage.binary_fill_holes(nonzero)


def _signed(mask: Num[np.ndarray, "d h w"]) -> Int8[np.ndarray, "d h w"] | Int16[np.ndarray, "d h w"]:
    return mask.astype(np.int8 if mask.max() <= np.iinfo(np.int8).max else np.int16)

"""A picture that is a mask, as people save them: grey, the same in three channels, or in colours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from unet_jax.data import labels as label_maps
from unet_jax.data.faults import Fault, FaultsError
from unet_jax.data.formats import table
from unet_jax.data.labels import COLOUR, LabelMap
from unet_jax.data.listing import has_suffix
from unet_jax.data.names import shown
from unet_jax.errors import InputError
from unet_jax.wording import count

JPEG_SUFFIXES = (".jpg", ".jpeg")
# Colours that a message names.
LISTED = 5


def decode(
    data: bytes, path: Path, labels: LabelMap | None, threshold: int | None = None
) -> UInt8[np.ndarray, "d h w"]:
    """The class of each pixel of a mask; pages of one file are slices.

    Args:
        data: the file's bytes.
        path: the file's, for messages.
        labels: which values, or colours, are which class; None where the mask holds 0 and 1 or 0 and 255.
        threshold: from which value on a pixel is of the one class there is; None where values are as they were drawn.

    Raises:
        InputError: the file cannot be read, is a JPEG and there is no threshold, or has other values or colours.
    """
    if threshold is None and has_suffix(path, JPEG_SUFFIXES):
        mistake = (
            "is a mask as JPEG, which changes its values: save it as PNG or TIFF, or, if it is black and white, set "
            "--config.data.mask_threshold=128."
        )
        raise FaultsError([Fault(path, mistake, "mask as JPEG")])
    in_colours = labels is not None and label_maps.in_colours(labels)
    pixels, _ = table.read(data, path, mask=not in_colours)
    try:
        if in_colours:
            return label_maps.to_classes(_colours(pixels), labels)
        if (pixels[..., 1:3] != pixels[..., :1]).any():
            raise FaultsError([Fault(path, _unknown_colours(_colours(pixels)), "mask in colours")])
        return label_maps.to_classes(pixels[..., 0], labels, threshold)
    except FaultsError:
        raise
    except InputError as error:
        raise FaultsError([Fault(path, str(error))]) from error


def union(masks: Sequence[UInt8[np.ndarray, "d h w"]], paths: Sequence[Path]) -> UInt8[np.ndarray, "d h w"]:
    """Masks of one image as one; a pixel that one of them ignores is ignored.

    Raises:
        InputError: two of them put a pixel into two classes.
    """
    result = masks[0].copy()
    for mask, path in zip(masks[1:], paths[1:], strict=True):
        both = (np.minimum(result, mask) > 0) & (np.maximum(result, mask) < label_maps.IGNORED) & (result != mask)
        if both.any():
            pixels = count(int(np.count_nonzero(both)), "pixel")
            mistake = f"has {pixels} of another class than {shown(paths[0])}: mend one of them."
            raise FaultsError([Fault(path, mistake, "two classes")])
        np.maximum(result, mask, out=result)
    return result


def _colours(pixels: Shaped[np.ndarray, "d h w c"]) -> Shaped[np.ndarray, "d h w"]:
    """Each pixel's colour as `labels` has it; alpha does not count."""
    if pixels.dtype != np.uint8:
        raise InputError(f"has pixels of {pixels.dtype}, and colours have 8 bits: save it so.")
    channels = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels[..., :3]
    red, green, blue = np.moveaxis(channels.astype(np.int64), -1, 0)
    return COLOUR | red << 16 | green << 8 | blue


def _unknown_colours(found: np.ndarray) -> str:
    """What to do about a mask in colours of which nobody said what they mean."""
    values, counts = np.unique(found, return_counts=True)
    others = [value for value in values[np.argsort(-counts)].tolist() if value != COLOUR]
    listed = ", ".join(map(label_maps.written, others[:LISTED])) + (", …" if len(others) > LISTED else "")
    example = ", ".join(f"class{n}={label_maps.written(value)}" for n, value in enumerate(others[:2], 1))
    return f"the mask has the colours {listed}: say what they mean, such as --config.data.labels='{example}'."

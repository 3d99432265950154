"""Pictures to look at: each slice in grey, or in its own colours, with the outline of what was found."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from unet_jax.colours import PREDICTED, rgb, rgb_of
from unet_jax.data.cache import CaseFiles
from unet_jax.data.case import Case
from unet_jax.data.formats.file_sorts import PICTURE_SUFFIXES

FOLDER = "overlays"
OUTLINE = rgb(PREDICTED)


def plan(files: CaseFiles) -> Path:
    """The folder of a volume's pictures, or the one picture of a picture, relative to the output's folder."""
    if _is_picture(files):
        return Path(FOLDER, files.images[0]).with_suffix(".png")
    return Path(FOLDER, files.name)


def encode(
    files: CaseFiles, case: Case, mask: UInt8[np.ndarray, "d h w"], channel: int | None, classes: int = 1
) -> Iterator[tuple[Path, bytes]]:
    """A PNG of each slice, with its path; those of a volume are counted from 1.

    Args:
        files: the case's.
        case: what was segmented.
        mask: 0 and 1, or the numbers of several classes.
        channel: which one is shown in grey; None shows pictures of three channels in their colours.
        classes: how many there are; each of several has a colour of its own, see `colours.colour_of`.
    """
    brightest = 255 if case.image.dtype == np.uint8 else max(float(case.image.max()), 1e-6)
    digits = len(str(len(mask)))
    for number, (image, found) in enumerate(zip(case.image, mask, strict=True), 1):
        path = plan(files) if _is_picture(files) else plan(files) / f"{number:0{digits}d}.png"
        shown = image[..., channel or 0] if channel is not None or image.shape[-1] != 3 else image
        grey = np.clip(np.asarray(shown, np.float32) * (255 / brightest), 0, 255).astype(np.uint8)
        picture = grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=-1)
        _, data = cv2.imencode(".png", cv2.cvtColor(_outlined(picture, found, classes), cv2.COLOR_RGB2BGR))
        yield path, data.tobytes()


def _is_picture(files: CaseFiles) -> bool:
    return len(files.images) == 1 and files.images[0].suffix.lower() in PICTURE_SUFFIXES


def _outlined(picture: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    if classes == 1:
        return draw(picture, mask)
    for number in range(1, classes + 1):
        picture = draw(picture, (mask == number).astype(np.uint8), rgb_of(number))
    return picture


def draw(
    picture: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], colour: tuple[int, int, int] = OUTLINE
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with the mask's outermost pixels coloured; what lies within stays as it is."""
    # Beyond the picture's edge, nothing is tumour.
    within = cv2.erode(mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    outlined = np.array(picture)
    outlined[(mask & ~within) > 0] = colour
    return outlined

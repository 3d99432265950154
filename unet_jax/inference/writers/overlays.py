"""Pictures to look at: each slice in grey, or in its own colours, enlarged, with the outline of the predicted mask."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from unet_jax.colours import PREDICTED, rgb, rgb_of
from unet_jax.data import intensity, regions
from unet_jax.data.case import Case
from unet_jax.data.formats.file_sorts import PICTURE_SUFFIXES
from unet_jax.data.reader import CaseFiles
from unet_jax.data.regions import Classes

FOLDER = "overlays"
OUTLINE = rgb(PREDICTED)
# The longer side has at least so many pixels.
SIDE = 512
# Pixels of an outline in an enlarged picture; else 1.
WIDTH = 2


def plan(files: CaseFiles) -> Path:
    """The folder for a volume's pictures, or the file for a single picture, relative to the output folder."""
    if _is_picture(files):
        return Path(FOLDER, files.images[0]).with_suffix(".png")
    return Path(FOLDER, files.name)


def encode(
    files: CaseFiles, case: Case, mask: UInt8[np.ndarray, "d h w"], channel: int | None, classes: Classes = ()
) -> Iterator[tuple[Path, bytes]]:
    """Yields the path and PNG of each slice; slices of a volume are numbered from 1.

    Small ones are enlarged by repeating pixels, until the longer side has 512.

    Args:
        files: the files of the case.
        case: what was segmented.
        mask: 0 and 1, or the numbers of several classes.
        channel: the channel to show in grey; None shows images of three channels in colour, and others' first channel.
        classes: several, each outlined in its own colour, that of `colours.rgb_of`; empty for one.
    """
    images = intensity.for_display(np.asarray(case.image))
    brightest = 255 if images.dtype == np.uint8 else max(float(images.max()), 1e-6)
    digits = len(str(len(mask)))
    for number, (image, found) in enumerate(zip(images, mask, strict=True), 1):
        path = plan(files)
        if len(mask) > 1 or not _is_picture(files):
            path = path.with_suffix("") if _is_picture(files) else path
            path /= f"{number:0{digits}d}.png"
        shown = image[..., channel or 0] if channel is not None or image.shape[-1] != 3 else image
        grey = np.clip(np.asarray(shown, np.float32) * (255 / brightest), 0, 255).astype(np.uint8)
        picture = grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=-1)
        picture = _outlined(picture, found, classes)
        _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        yield path, data.tobytes()


def _is_picture(files: CaseFiles) -> bool:
    return len(files.first_channels) == 1 and files.images[0].suffix.lower() in PICTURE_SUFFIXES


def _enlarged(picture: np.ndarray) -> np.ndarray:
    times = -(-SIDE // max(picture.shape[:2]))
    return np.ascontiguousarray(picture.repeat(times, 0).repeat(times, 1))


def _outlined(picture: np.ndarray, mask: np.ndarray, classes: Classes) -> np.ndarray:
    width = WIDTH if max(picture.shape) < SIDE else 1
    picture, mask = _enlarged(picture), _enlarged(mask)
    if not classes:
        return draw(picture, mask, width=width)
    for number, its in enumerate(regions.members(classes), 1):
        picture = draw(picture, regions.marked(mask, its).astype(np.uint8), rgb_of(number), width)
    return picture


def draw(
    picture: UInt8[np.ndarray, "h w 3"],
    mask: UInt8[np.ndarray, "h w"],
    colour: tuple[int, int, int] = OUTLINE,
    width: int = 1,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with so many of the mask's outermost pixels coloured; its interior is unchanged."""
    # Outside the picture nothing belongs to the mask.
    square = np.ones((2 * width + 1,) * 2, np.uint8)
    within = cv2.erode(mask, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    outlined = np.array(picture)
    outlined[(mask & ~within) > 0] = colour
    return outlined

"""The small picture of a slice on the contact sheet, with the outlines of what is marked."""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.colours import TRUE, rgb, rgb_of
from unet_jax.data import regions
from unet_jax.data.regions import Classes
from unet_jax.inference.writers.overlays import draw
from unet_jax.report import case_view

# Pixels of the longer side.
SIDE = 96
# Without subsampled colours, which would smear outlines of one pixel.
JPEG = (
    cv2.IMWRITE_JPEG_QUALITY,
    85,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


def thumbnail(
    image: UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"],
    mask: UInt8[np.ndarray, "h w"],
    classes: Classes,
    channel: int | None,
    spacing: tuple[float, float, float] | None,
) -> bytes:
    """A JPEG of a slice, at most SIDE pixels on either side, in the proportions of the body.

    Args:
        image: the slice.
        mask: of the slice.
        classes: several, each outlined in its own colour; empty for one.
        channel: shown in grey; None for colours, where there are three channels.
        spacing: mm between slices, rows and columns.
    """
    channels = (0, 1, 2) if channel is None and image.shape[-1] == 3 else (channel or 0,)
    grey = case_view.to_grey(np.moveaxis(image[..., channels], -1, 0))
    bright = np.clip(grey * case_view.brightness(grey), 0, 255).astype(np.uint8)
    picture = np.moveaxis(np.broadcast_to(bright, (3, *bright.shape[1:])), 0, -1)
    size = _size(mask.shape, spacing)
    shrinks = size[0] * size[1] < mask.size
    picture = cv2.resize(
        np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    )
    for number, its in enumerate(regions.members(classes), 1):
        there = regions.marked(mask, its).astype(np.float32)
        share = cv2.resize(there, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
        # What is too small to fill half a pixel of the picture stays in sight.
        covered = share >= 0.5 if (share >= 0.5).any() else share > 0
        picture = draw(picture, covered.astype(np.uint8), rgb_of(number) if classes else rgb(TRUE))
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), JPEG)
    return data.tobytes()


def _size(shape: tuple[int, int], spacing: tuple[float, float, float] | None) -> tuple[int, int]:
    """Columns and rows of the picture."""
    height, width = (length * mm for length, mm in zip(shape, (spacing or (1, 1, 1))[1:], strict=True))
    factor = SIDE / max(height, width)
    return max(round(width * factor), 1), max(round(height * factor), 1)

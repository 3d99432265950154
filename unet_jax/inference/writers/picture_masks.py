"""Masks of pictures: a PNG or TIFF of the same size for each, with 0 and 255 or the values of the classes."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.data.labels import LabelMap
from unet_jax.data.reader import CaseFiles
from unet_jax.inference.writers.kinds import as_labels, kinds, of_each

# Masks of JPEGs are PNGs: JPEG would change the values.
LIKE = {".tif": ".tif", ".tiff": ".tiff"}
OTHERWISE = ".png"


def plan(files: CaseFiles, probabilities: bool, classes: LabelMap | None = None) -> list[Path]:
    """For each picture, at its own relative path, `<name>_mask` and, if asked for, `<name>_probability`."""
    return [
        path.with_name(f"{path.stem}_{kind}{LIKE.get(path.suffix.lower(), OTHERWISE)}")
        for kind in kinds(probabilities, classes)
        for path in files.first_channels
    ]


def encode(
    files: CaseFiles,
    root: Path,
    mask: UInt8[np.ndarray, "d h w"],
    probability: Float32[np.ndarray, "d h w *k"] | None,
    classes: LabelMap | None = None,
) -> Iterator[tuple[Path, bytes]]:
    """Yields each file of `plan` with its bytes.

    Args:
        files: the pictures of the case.
        root: not used, since pictures have no geometry to read.
        mask: 0 and 1, or class numbers, with slices in the order of the pictures.
        probability: in [0, 1], written in 16 bits with 65535 for 1; a background channel is not written.
        classes: the label map of several classes, whose values are written.
    """
    del root
    pictures = list(as_labels(mask, classes) if classes else mask * np.uint8(255))
    for of_class in of_each(probability):
        pictures += list(np.rint(of_class * 65535).astype(np.uint16))
    for path, picture in zip(plan(files, probability is not None, classes), pictures, strict=True):
        _, data = cv2.imencode(path.suffix, picture)
        yield path, data.tobytes()

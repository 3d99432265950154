"""Masks of pictures: a picture of 0 and 255, or of labels, for each, of its size, as PNG or TIFF as the picture is."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.data.cache import CaseFiles
from unet_jax.data.labels import LabelMap
from unet_jax.inference.writers.kinds import as_labels, kinds, of_each

# JPEG would change the values.
LIKE = {".tif": ".tif", ".tiff": ".tiff"}
OTHERWISE = ".png"


def plan(files: CaseFiles, probabilities: bool, classes: LabelMap | None = None) -> list[Path]:
    """`<name>_mask` beside the picture's own place, and `<name>_probability`, for each picture of the case."""
    return [
        path.with_name(f"{path.stem}_{kind}{LIKE.get(path.suffix.lower(), OTHERWISE)}")
        for kind in kinds(probabilities, classes)
        for path in files.images
    ]


def encode(
    files: CaseFiles,
    root: Path,
    mask: UInt8[np.ndarray, "d h w"],
    probability: Float32[np.ndarray, "d h w *k"] | None,
    classes: LabelMap | None = None,
) -> Iterator[tuple[Path, bytes]]:
    """Each file of `plan` with its bytes.

    Args:
        files: the case's.
        root: not used: pictures have no geometry but their size.
        mask: 0 and 1, or the numbers of classes, in the order of the pictures.
        probability: in [0, 1], written with 16 bits, 65535 being 1; that of the background, if there, is not written.
        classes: several; their values are written.
    """
    del root
    pictures = list(as_labels(mask, classes) if classes else mask * np.uint8(255))
    for of_class in of_each(probability):
        pictures += list(np.rint(of_class * 65535).astype(np.uint16))
    for path, picture in zip(plan(files, probability is not None, classes), pictures, strict=True):
        _, data = cv2.imencode(path.suffix, picture)
        yield path, data.tobytes()

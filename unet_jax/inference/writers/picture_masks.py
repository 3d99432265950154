"""Masks of pictures: a file of the same size for each, with 0 and 255 or the values of the classes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.data.formats import table
from unet_jax.data.labels import LabelMap
from unet_jax.data.reader import CaseFiles
from unet_jax.inference.writers.kinds import as_labels, kinds, of_each

# Masks of other formats are PNGs: JPEG would change the values, and GIF and BMP hold no probabilities.
LIKE = (".tif", ".tiff", ".npy", ".npz")
# As arrays, masks of one class hold 0 and 1.
ARRAYS = (".npy", ".npz")
OTHERWISE = ".png"


def plan(files: CaseFiles, probabilities: bool, classes: LabelMap | None = None) -> list[Path]:
    """For each file, at its own relative path, `<name>_mask` and, if asked for, `<name>_probability`."""
    return [
        path.with_name(f"{path.stem}_{kind}{_suffix(path)}")
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
        mask: 0 and 1, or class numbers, with slices in the order of the pictures; a file that holds all of them gets
            all of them.
        probability: in [0, 1], written in 16 bits with 65535 for 1, to arrays as it is; a background channel is not
            written.
        classes: the label map of several classes, whose values are written.
    """
    del root
    stacks = [as_labels(mask, classes), *of_each(probability, classes)]
    planned = iter(plan(files, probability is not None, classes))
    for number, stack in enumerate(stacks):
        for volume in np.split(stack, len(files.first_channels)):
            path = next(planned)
            is_array = path.suffix in ARRAYS
            if number and not is_array:
                volume = np.rint(volume * 65535).astype(np.uint16)
            elif not number and not classes and not is_array:
                volume = volume * np.uint8(255)
            kind, suffix = table.format_of(path)
            yield path, kind.module().encode(volume, suffix)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return suffix if suffix in LIKE else OTHERWISE

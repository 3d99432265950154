"""Masks of NIfTI cases: one file per case, in the grid of its first channel."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.data.formats import nifti_file
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.labels import LabelMap
from unet_jax.data.reader import CaseFiles
from unet_jax.inference.writers.kinds import as_labels, kinds, of_each


def plan(files: CaseFiles, probabilities: bool, classes: LabelMap | None = None) -> list[Path]:
    """`<case>_mask` and, if asked for, `<case>_probability`, compressed if the case's first channel is."""
    if not files.images:
        return []
    ending = ".nii.gz" if files.images[0].name.lower().endswith(".gz") else ".nii"
    return [Path(f"{files.name}_{kind}{ending}") for kind in kinds(probabilities, classes)]


def encode(
    files: CaseFiles,
    root: Path,
    mask: UInt8[np.ndarray, "d h w"],
    probability: Float32[np.ndarray, "d h w *k"] | None,
    classes: LabelMap | None = None,
) -> Iterator[tuple[Path, bytes]]:
    """Yields each file of `plan` with its bytes.

    Args:
        files: the files of the case.
        root: the folder that their paths are relative to.
        mask: 0 and 1, or class numbers, of the case's shape.
        probability: in [0, 1], of the case's shape, written as float32; a background channel is not written.
        classes: the label map of several classes, whose values are written.

    Raises:
        InputError: the first channel can no longer be read.
    """
    first = files.images[0]
    _, grid = nifti_file.decode(read_file(root, first), first)
    volumes = [as_labels(mask, classes), *of_each(probability)]
    for path, volume in zip(plan(files, probability is not None, classes), volumes, strict=True):
        yield path, nifti_file.encode(volume, grid, compressed=path.suffix == ".gz")

"""Masks of volumes: one per case, in the format and the grid of its first channel."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.data.formats import table
from unet_jax.data.formats.image_file import read_file, read_head
from unet_jax.data.labels import LabelMap
from unet_jax.data.reader import CaseFiles
from unet_jax.inference.writers.kinds import as_labels, kinds, of_each


def plan(files: CaseFiles, probabilities: bool, classes: LabelMap | None = None) -> list[Path]:
    """`<case>_mask` and, if asked for, `<case>_probability`, with the suffix of the case's first channel."""
    if not files.images:
        return []
    kind, suffix = table.format_of(files.images[0])
    endings = kind.module().endings(suffix)
    return [Path(f"{files.name}_{what}{ending}") for what in kinds(probabilities, classes) for ending in endings]


def encode(
    files: CaseFiles,
    root: Path,
    mask: UInt8[np.ndarray, "d h w"],
    probability: Float32[np.ndarray, "d h w *k"] | None,
    classes: LabelMap | None = None,
    axes: str = "patient",
) -> Iterator[tuple[Path, bytes]]:
    """Yields each file of `plan` with its bytes.

    Args:
        files: the files of the case.
        root: the folder that their paths are relative to.
        mask: 0 and 1, or class numbers, of the case's shape.
        probability: in [0, 1], of the case's shape, written as float32; a background channel is not written.
        classes: the label map of several classes, whose values are written.
        axes: config.data.axes, of the case's arrays.

    Raises:
        InputError: the first channel can no longer be read.
    """
    first = files.images[0]
    kind, suffix = table.format_of(first)
    count = kind.module().GRID_BYTES
    head = read_file(root, first) if count is None else read_head(root, first, count)
    grid = kind.module().read_grid(head, first).with_axes(axes)
    volumes = [as_labels(mask, classes), *of_each(probability, classes)]
    for what, volume in zip(kinds(probability is not None, classes), volumes, strict=True):
        for ending, data in kind.module().encode(volume, grid, suffix).items():
            yield Path(f"{files.name}_{what}{ending}"), data

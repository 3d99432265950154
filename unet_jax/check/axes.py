"""How a volume's file lies in the body: by the affine in its header, no voxel is decoded."""

import dataclasses
from pathlib import Path

import numpy as np

from unet_jax.data.formats import table
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

# Where a file's axes count to, in nibabel's letters: Right, Anterior, Superior and their opposites.
SIDES = ("LR", "PA", "IS")


@dataclasses.dataclass(frozen=True)
class Axes:
    """The axes of a file.

    Attributes:
        letters: towards which side of the body its voxels are counted, such as LPS.
        tilt: degrees by which they are turned away from the body's axes, at most.
    """

    letters: str
    tilt: float


def read(root: Path, files: CaseFiles) -> Axes | None:
    """The axes of a case's first image; None of pictures and DICOM, whose slices lie as they were taken."""
    found = table.format_of(files.images[0]) if files.images else None
    if found is None or found[0].sort != "volume":
        return None
    try:
        grid = table.read_grid(read_file(root, files.images[0]), files.images[0])
    except InputError:  # it was there, and decoded, when the check began
        return None
    directions = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    # Each axis of the file goes along one of the body; the cosine of its angle to that.
    along = np.abs(directions).argmax(axis=0)
    cosines = directions[along, range(3)]
    letters = "".join(SIDES[axis][int(cosine > 0)] for axis, cosine in zip(along, cosines, strict=True))
    return Axes(letters, float(np.degrees(np.arccos(np.clip(np.abs(cosines).min(), 0, 1)))))

"""Which side of the patient lies at which edge of a case's slices, by the header of its first file."""

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from unet_jax.data.formats import table
from unet_jax.data.formats.image_file import read_file, read_head
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
# Of DICOM's axes: what they count towards, and from where.
DICOM_AXES = (("L", "R"), ("P", "A"), ("S", "I"))
# In the header of a NRRD whose space is the patient's, or of a MetaImage.
ITK_DIRECTIONS = re.compile(rb"^(space: *(left|right|[LR][AP]S)|(TransformMatrix|Rotation|Orientation) *=)", re.M)


def edges(files: CaseFiles, root: Path, source: str, axes: str) -> str | None:
    """The sides at the left, right, upper and lower edge of a case's slices, such as "RLAP" of an axial one.

    Of tilted slices, the nearest sides.

    Args:
        files: the case's.
        root: the folder that their paths are relative to.
        source: config.data.source.
        axes: config.data.axes.

    Returns:
        None where the files do not say: pictures, a NIfTI without qform and sform, or a file that cannot be read.
    """
    path = files.images[0]
    with contextlib.suppress(InputError):
        if source == "dicom":
            return _of_dicom(read_file(root, path), path)
        kind = table.format_of(path)
        if kind is not None and kind[0].sort == "volume":
            return _of_volume(root, path, axes)
    return None


def _of_volume(root: Path, path: Path, axes: str) -> str | None:
    module = table.format_of(path)[0].module()
    count = getattr(module, "GRID_BYTES", None)
    grid = module.read_grid(read_file(root, path) if count is None else read_head(root, path, count), path)
    if not _says_where(grid.header):
        return None
    _, down, right = grid.with_axes(axes).towards()
    return OPPOSITE[right] + right + OPPOSITE[down] + down


def _says_where(header: Any) -> bool:
    """Whether a file's header holds the directions of its axes, rather than leaving them to custom."""
    if isinstance(header, bytes):
        return ITK_DIRECTIONS.search(header) is not None
    return any(code in header and int(header[code]) > 0 for code in ("qform_code", "sform_code"))


def _of_dicom(data: bytes, path: Path) -> str | None:
    from unet_jax.data.formats import dicom, dicom_frames

    dataset, _ = dicom_frames.read(data, path)[0]
    directions = dicom.numbers(dataset, "ImageOrientationPatient", 6)
    if directions is None:
        return None
    right, down = (_nearest(direction) for direction in (directions[:3], directions[3:]))
    return OPPOSITE[right] + right + OPPOSITE[down] + down


def _nearest(direction: Float64[np.ndarray, "3"]) -> str:
    """The side of the patient that a direction in DICOM's coordinates points to."""
    axis = int(np.abs(direction).argmax())
    return DICOM_AXES[axis][0 if direction[axis] > 0 else 1]

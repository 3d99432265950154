"""Where the voxels of a volume's file lie, how a case's slices are cut from them, and the way back."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from unet_jax.errors import InputError

try:
    import nibabel
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt2axcodes, ornt_transform
except ImportError as error:
    raise InputError("NIfTI files need the package nibabel: pip install .[nifti]") from error

# By the body's axis that is cut across: towards which side (Right, Posterior, Superior, …) slices, rows and columns
# count. Pictures are then as radiologists look at them, and as scanners write DICOM: the patient's right on the left.
PLANES = {"sagittal": ("R", "I", "P"), "coronal": ("P", "I", "L"), "axial": ("S", "P", "L")}
# The reverse of nibabel's "canonical" order of axes, which is how nnU-Net's NibabelIOWithReorient has them.
RAS = ("S", "A", "R")
# A volume is cut across the axis whose voxels are this many times as long as the others', else into axial slices.
THICK = 1.4
# By NIfTI's codes of units: metres, millimetres, micrometres.
MM = {1: 1e3, 2: 1.0, 3: 1e-3}


@dataclasses.dataclass(frozen=True)
class VoxelGrid:
    """The grid of a volume's file. A case's arrays are [slices, rows, columns]; the file's have axes of their own.

    Attributes:
        header: the file's, as its format needs it to write another file of this grid.
        affine: from a voxel's place in the file's array to the scanner's millimetres (right, anterior, superior).
        shape: of the file's array, channels left out.
        plane: a key of PLANES, how slices are cut; or "file", the file's own axes from the last to the first, as
            SimpleITK's arrays have them; or "ras".
        spacing: millimetres between slices, rows and columns.
    """

    header: Any
    affine: Float64[np.ndarray, "4 4"]
    shape: tuple[int, int, int]
    plane: str
    spacing: tuple[float, float, float]

    def to_case(self, volume: Shaped[np.ndarray, "i j k *c"]) -> Shaped[np.ndarray, "d h w *c"]:
        """The file's array as slices, rows and columns: axes swapped and flipped, no voxel changed."""
        return apply_orientation(volume, ornt_transform(io_orientation(self.affine), self._orientation()))

    def to_file(self, volume: Shaped[np.ndarray, "d h w"]) -> Shaped[np.ndarray, "i j k"]:
        """The inverse of `to_case`."""
        return apply_orientation(volume, ornt_transform(self._orientation(), io_orientation(self.affine)))

    def with_axes(self, axes: str) -> "VoxelGrid":
        """The same voxels in other axes of a case: "patient" as they are, or the planes "file" or "ras"."""
        if axes == "patient":
            return self
        turned = dataclasses.replace(self, plane=axes)
        by_file_axis = np.asarray(self.spacing)[self._order()]
        return dataclasses.replace(turned, spacing=tuple(by_file_axis[np.argsort(turned._order())].tolist()))

    def towards(self) -> tuple[str, str, str]:
        """Towards which side of the patient a case's slices, rows and columns count, such as ("S", "P", "L")."""
        return ornt2axcodes(self._orientation())

    def _order(self) -> np.ndarray:
        """Of each axis of the file, which one of a case's it becomes."""
        return ornt_transform(io_orientation(self.affine), self._orientation())[:, 0].astype(int)

    def _orientation(self) -> np.ndarray:
        """Of a case's axes, in nibabel's terms."""
        if self.plane == "file":
            return io_orientation(self.affine)[::-1]
        return axcodes2ornt(RAS if self.plane == "ras" else PLANES[self.plane])


def axes_of(header: nibabel.analyze.AnalyzeHeader) -> tuple[int, ...]:
    """The axes of a NIfTI or Analyze file: two of a picture, three, or four with channels.

    Axes of 1 at the end are left out, and so is a fourth of 1 before a fifth, as NIfTI has vectors.

    Raises:
        InputError: there are more, or fewer. The message does not name the file.
    """
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 5 and shape[3] == 1:
        shape = (*shape[:3], shape[4])
    if len(shape) not in (2, 3, 4):
        raise InputError(
            f"is an array of {' x '.join(map(str, shape))}, where 3 axes are needed, or 4 with channels: save each "
            "time as a file of its own."
        )
    return shape


def grid_of(header: nibabel.analyze.AnalyzeHeader) -> VoxelGrid:
    """The grid that a header of NIfTI or Analyze describes.

    Raises:
        InputError: as `axes_of`, or the affine is singular. The message does not name the file.
    """
    shape = axes_of(header)
    unit = MM.get(int(header["xyzt_units"]) % 8, 1.0) if "xyzt_units" in header else 1.0
    affine = np.asarray(header.get_best_affine(), np.float64)
    if "sform_code" in header and _is_singular(affine):
        # Such as a code without an affine, which some programs write: the quaternion then says where voxels lie.
        affine = np.asarray(header.get_qform(), np.float64) if header["qform_code"] > 0 else affine
    return grid_from(affine, (*shape, 1)[:3], header, unit=unit, flat=len(shape) == 2)


def grid_from(
    affine: Float64[np.ndarray, "4 4"],
    shape: tuple[int, int, int],
    header: Any,
    *,
    unit: float = 1.0,
    flat: bool = False,
) -> VoxelGrid:
    """The grid of an affine.

    Args:
        affine: as in `VoxelGrid`.
        shape: of the file's array, channels left out.
        header: the file's.
        unit: millimetres of the affine's unit.
        flat: whether the third axis is across a picture of two, which is then the slice, whatever its voxels' sizes.

    Raises:
        InputError: the affine is singular. The message does not name the file.
    """
    if _is_singular(affine):
        raise InputError("its affine does not say where the voxels lie (it is singular): restore its header.")
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(0)) * unit
    bodily = io_orientation(affine)[:, 0].astype(int)
    plane = list(PLANES)[bodily[2] if flat else _slice_axis(lengths[np.argsort(bodily)])]
    order = ornt_transform(io_orientation(affine), axcodes2ornt(PLANES[plane]))[:, 0].astype(int)
    return VoxelGrid(header, affine, shape, plane, tuple(lengths[np.argsort(order)].tolist()))


def _is_singular(affine: Float64[np.ndarray, "4 4"]) -> bool:
    """Whether a voxel has no volume, beside that of a box of the same edges."""
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(0))
    return not np.isfinite(affine).all() or bool(abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * np.prod(lengths))


def farthest_apart(one: VoxelGrid, other: VoxelGrid) -> float:
    """How far the same corner of two grids of one shape lies apart at most, in lengths of a voxel."""
    corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * [*(n - 1 for n in one.shape), 1]
    distances = np.linalg.norm((corners @ (one.affine - other.affine).T)[:, :3], axis=1)
    return float(distances.max() / np.sqrt((one.affine[:3, :3] ** 2).sum(0)).min())


def _slice_axis(lengths: np.ndarray) -> int:
    """Of the body's axes (left to right, back to front, feet to head), the one to cut across."""
    longest = int(lengths.argmax())
    return longest if lengths[longest] > THICK * np.delete(lengths, longest).max() else 2

"""Volumes in nnU-Net's raw layout to cases: `imagesTr/<case>_0000.nii.gz`, `labelsTr/<case>.nii.gz`, `dataset.json`.

The layout is that of nnU-Net v2 (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z): one file a channel, numbered
with four digits; names of channels and labels in `dataset.json`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from unet_jax.data import labels as label_maps
from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError, lines_of
from unet_jax.data.formats import dataset_json, nifti_listing, table
from unet_jax.data.formats.file_sorts import VOLUME_SUFFIXES
from unet_jax.data.formats.mask_file import union
from unet_jax.data.formats.nifti_listing import DESCRIPTION
from unet_jax.data.formats.voxel_grid import VoxelGrid, farthest_apart
from unet_jax.data.labels import LabelMap
from unet_jax.data.names import shown
from unet_jax.data.patients import Patients
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

DECODING = "nifti 1: slices across the thickest axis or axial, as radiologists look at them"

# Affines are written with rounding; what lies further apart than this share of a voxel lies elsewhere.
TOLERANCE = 0.1


@dataclasses.dataclass(frozen=True)
class Description:
    """What `dataset.json` says.

    Attributes:
        channels: their names, in order.
        labels: background left out.
        ending: of the files, with its dot.
        cases: how many there are to train on, if it says so.
    """

    channels: tuple[str, ...]
    labels: LabelMap
    ending: str
    cases: int | None


def read_description(root: Path, labels: LabelMap | None = None) -> Description:
    """Reads and checks `dataset.json`; `labels`, the config's, take the place of its own.

    Raises:
        InputError: it cannot be read or used.
    """
    path = root / DESCRIPTION
    found = dataset_json.read(path)
    if found.ending not in VOLUME_SUFFIXES:
        raise InputError(
            f"{path}: file_ending is {found.ending!r}; it must be one of {', '.join(VOLUME_SUFFIXES)}: convert the "
            "files."
        )
    table.check_packages([Path(f"case{found.ending}")])
    labels = dataset_json.label_map(found, path) if labels is None else labels
    return Description(found.channels, labels, found.ending, found.cases)


def find(root: Path, description: Description, patients: Patients) -> list[CaseFiles]:
    """The cases to train on: see `nifti_listing.find`."""
    return nifti_listing.find(root, len(description.channels), description.ending, description.cases, patients)


def decode(
    files: CaseFiles,
    read: Callable[[Path], bytes],
    labels: LabelMap | None,
    channels: int | None = None,
    threshold: int | None = None,
    axes: str = "patient",
    number_of: Callable[[Path], int] | None = None,
) -> Case:
    """Reads and checks the channels and the mask of one case.

    Args:
        files: what `nifti_listing` said of the case.
        read: gives the bytes of a path of `files`, or raises InputError.
        labels: which values of the mask are which class.
        channels: how many there must be; None where that is not known.
        threshold: see `labels.to_classes`.
        axes: config.data.axes.
        number_of: see `patterned.decode`.

    Returns:
        image float32 [slices, rows, columns, channels] in the files' own units, mask of classes or None, spacing in mm.
        How slices are cut is in `voxel_grid`. The channels of a file that has several are channels of the image.

    Raises:
        InputError: every fault of the case, one line each.
    """
    faults = list(files.faults)
    grids: dict[Path, VoxelGrid] = {}
    arrays = {}
    for path in (*files.images, *files.masks):
        try:
            is_mask = path in files.masks
            array, grid = table.read(read(path), path, mask=is_mask, axes=axes)
            _check_together(path, grid, grids)
            grids[path] = grid
            found = _classes(array, path, labels, threshold) if is_mask else array
            found = label_maps.numbered(found, number_of(path)) if is_mask and number_of else found
            # Type and order in one go: a volume is not held twice.
            arrays[path] = np.ascontiguousarray(found, np.uint8 if is_mask else np.float32)
            del array, found
        except InputError as error:
            faults += lines_of(error)
    if faults:
        raise FaultsError(faults)
    grid = grids[files.images[0]]
    image = _together([arrays.pop(path) for path in files.images])
    if channels not in (None, image.shape[-1]):
        raise FaultsError([nifti_listing.wrong_channels(files.name, range(image.shape[-1]), channels)])
    mask = None
    if files.masks:
        mask = np.ascontiguousarray(union([arrays[path] for path in files.masks], files.masks))
    return Case(files.name, files.patient, image, mask, grid.spacing)


def _together(channels: list[np.ndarray]) -> np.ndarray:
    """The channels of all files, last and contiguous."""
    return channels[0] if len(channels) == 1 else np.concatenate(channels, axis=-1)


def _check_together(path: Path, grid: VoxelGrid, grids: Mapping[Path, VoxelGrid]) -> None:
    """Checks that a file's voxels lie where those of the case's first file do."""
    if not grids:
        return
    other, first = next(iter(grids.items()))
    if grid.shape != first.shape:
        sizes = [" x ".join(map(str, shape)) for shape in (grid.shape, first.shape)]
        mistake = f"is {sizes[0]} voxels and {shown(other)} {sizes[1]}: all files of a case must be of one size."
        raise FaultsError([Fault(path, mistake, "sizes")])
    apart = farthest_apart(first, grid)
    if apart > TOLERANCE:
        mistake = (
            f"its affine puts it up to {apart:.1f} voxels away from {shown(other)}: resample it to that file's grid, "
            "or give it that file's affine if its voxels are in the same order."
        )
        raise FaultsError([Fault(path, mistake, "affines")])


def _classes(array: np.ndarray, path: Path, labels: LabelMap | None, threshold: int | None) -> np.ndarray:
    if array.shape[-1] != 1:
        raise FaultsError([Fault(path, f"the mask has {array.shape[-1]} channels: save it with 1.")])
    try:
        return label_maps.to_classes(array[..., 0], labels, threshold)
    except InputError as error:
        raise FaultsError([Fault(path, str(error))]) from error

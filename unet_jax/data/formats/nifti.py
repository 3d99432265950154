"""NIfTI in nnU-Net's raw layout to cases: `imagesTr/<case>_0000.nii.gz`, `labelsTr/<case>.nii.gz`, `dataset.json`.

The layout is that of nnU-Net v2 (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z): one file a channel, numbered
with four digits; names of channels and labels in `dataset.json`.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from unet_jax.data import labels as label_maps
from unet_jax.data.cache import CaseFiles
from unet_jax.data.case import Case
from unet_jax.data.formats import nifti_file
from unet_jax.data.formats.file_sorts import NIFTI_SUFFIXES
from unet_jax.data.formats.voxel_grid import VoxelGrid, farthest_apart
from unet_jax.data.labels import LabelMap
from unet_jax.data.names import shown
from unet_jax.data.patients import Patients
from unet_jax.errors import InputError

DECODING = "nifti 1: slices across the thickest axis or axial, as radiologists look at them"

DESCRIPTION = "dataset.json"
IMAGES, LABELS = "imagesTr", "labelsTr"
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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        channels = [content["channel_names"][str(n)] for n in range(len(content["channel_names"]))]
        ending, cases = content["file_ending"], content.get("numTraining")
        if labels is None:
            labels = _label_map(content["labels"], path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): nnU-Net's raw layout needs it.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{path}: is no description of a data set ({error!r}): it needs "channel_names" such as {{"0": "FLAIR"}}, '
            '"labels" such as {"background": 0, "tumour": 1}, and "file_ending", as of nnU-Net v2.'
        ) from error
    if ending not in NIFTI_SUFFIXES:
        raise InputError(
            f"{path}: file_ending is {ending!r}; it must be one of {', '.join(NIFTI_SUFFIXES)}: convert the files."
        )
    return Description(tuple(map(str, channels)), labels, ending, cases)


def find(root: Path, description: Description, patients: Patients) -> list[CaseFiles]:
    """Lists the cases to train on, the channels of each in order.

    Each case is a patient of its own, unless `patients` tells them apart otherwise. Hidden files are passed over.

    Raises:
        InputError: a folder is missing.
    """
    faults = []
    images = _by_case(root, IMAGES, description.ending, faults)
    masks = {path.name.removesuffix(description.ending): path for path in _files(root, LABELS, description.ending)}
    faults += [
        f"{shown(masks[name])}: this mask has no image: add it or remove this file." for name in masks.keys() - images
    ]
    if description.cases is not None and description.cases != len(images):
        faults.append(f"{DESCRIPTION}: says numTraining {description.cases}, and {IMAGES} holds {len(images)} cases.")
    needed = set(range(len(description.channels)))
    cases = []
    for name, channels in images.items():
        wrong = (
            []
            if name in masks
            else [f"{LABELS}/{shown(name)}{description.ending}: is missing, and its image is there."]
        )
        if channels.keys() != needed:
            wrong.append(
                f"{IMAGES}/{shown(name)}: has the channels {', '.join(f'{n:04d}' for n in channels)}, and "
                f"{', '.join(f'{n:04d}' for n in sorted(needed))} are needed by {DESCRIPTION}."
            )
        cases.append(_case_files(name, channels, masks.get(name), patients, wrong))
    return [*cases, CaseFiles("listing", "", (), (), tuple(sorted(faults)))] if faults else cases


def find_images(path: Path) -> tuple[Path, list[CaseFiles]]:
    """Lists a NIfTI file, or those of a folder, for prediction.

    `<case>_0000.nii.gz`, `<case>_0001.nii.gz`, … are the channels of one case, also where only one of them is named; a
    file whose name ends otherwise is a case of one channel.

    Returns:
        the root that the paths start from, and cases without masks.

    Raises:
        InputError: there is no such file, or channels are missing.
    """
    root, only = (path.parent, _case_and_channel(path.name)[0]) if path.is_file() else (path, None)
    cases: dict[str, dict[int, Path]] = {}
    for ending in NIFTI_SUFFIXES:
        for file in _files(root, ".", ending):
            name, channel = _case_and_channel(file.name)
            if only in (None, name):
                cases.setdefault(name, {}).setdefault(channel or 0, file)
    if not cases:
        raise InputError(f"{path}: holds no file that ends in {' or '.join(NIFTI_SUFFIXES)}.")
    listing = []
    for name, channels in sorted(cases.items()):
        missing = (
            [] if max(channels) == len(channels) - 1 else [f"{shown(name)}: a channel between the others is missing."]
        )
        listing.append(_case_files(name, channels, None, Patients(), missing))
    return root, listing


def decode(files: CaseFiles, read: Callable[[Path], bytes], labels: LabelMap) -> Case:
    """Reads and checks the channels and the mask of one case.

    Args:
        files: what `find` or `find_images` said of the case.
        read: gives the bytes of a path of `files`, or raises InputError.
        labels: which values of the mask are which class.

    Returns:
        image float32 [slices, rows, columns, channels] in the files' own units, mask of classes or None, spacing in mm.
        How slices are cut is in `voxel_grid`.

    Raises:
        InputError: every fault of the case, one line each.
    """
    faults = list(files.faults)
    grids: dict[Path, VoxelGrid] = {}
    arrays = {}
    for path in (*files.images, *files.masks):
        try:
            array, grid = nifti_file.decode(read(path), path)
            _check_together(path, grid, grids)
            grids[path] = grid
            arrays[path] = _classes(array, path, labels) if path in files.masks else array.astype(np.float32)
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("\n".join(faults))
    grid = grids[files.images[0]]
    image = np.ascontiguousarray(np.stack([grid.to_case(arrays[path]) for path in files.images], axis=-1))
    mask = np.ascontiguousarray(grid.to_case(arrays[files.masks[0]])) if files.masks else None
    return Case(files.name, files.patient, image, mask, grid.spacing)


def _label_map(content: Mapping, path: Path) -> LabelMap:
    labels = {
        name: tuple(int(value) for value in (values if isinstance(values, list) else [values]))
        for name, values in content.items()
        if name != "background"
    }
    if "ignore" in labels:
        raise InputError(f'{path}: has the label "ignore", and no pixel can be left out here: set config.data.labels.')
    label_maps.check(labels, f"{path}, labels (config.data.labels takes their place)")
    return labels


def _files(root: Path, folder: str, ending: str) -> list[Path]:
    if not (root / folder).is_dir():
        raise InputError(f"{root / folder}: there is no such folder; nnU-Net's raw layout needs {IMAGES} and {LABELS}.")
    names = sorted(path.name for path in (root / folder).iterdir())
    return [Path(folder, name) for name in names if name.endswith(ending) and not name.startswith(".")]


def _case_and_channel(name: str) -> tuple[str, int | None]:
    stem = name.removesuffix(".gz").removesuffix(".nii")
    numbered = re.fullmatch(r"(.+)_([0-9]{4})", stem)
    return (numbered[1], int(numbered[2])) if numbered else (stem, None)


def _by_case(root: Path, folder: str, ending: str, faults: list[str]) -> dict[str, dict[int, Path]]:
    cases: dict[str, dict[int, Path]] = {}
    for path in _files(root, folder, ending):
        name, channel = _case_and_channel(path.name)
        if channel is None:
            faults.append(
                f"{shown(path)}: is not named <case>_<four digits of the channel>{ending}: rename or remove it."
            )
        else:
            cases.setdefault(name, {})[channel] = path
    return cases


def _case_files(
    name: str, channels: Mapping[int, Path], mask: Path | None, patients: Patients, faults: list[str]
) -> CaseFiles:
    try:
        patient = patients.place(name).patient
    except InputError as error:
        patient, faults = "", [*faults, str(error)]
    images = tuple(channels[number] for number in sorted(channels))
    return CaseFiles(name, patient, images, () if mask is None else (mask,), tuple(faults))


def _check_together(path: Path, grid: VoxelGrid, grids: Mapping[Path, VoxelGrid]) -> None:
    """Whether a file's voxels lie where those of the case's first file do."""
    if not grids:
        return
    other, first = next(iter(grids.items()))
    if grid.shape != first.shape:
        raise InputError(
            f"{shown(path)}: is {' x '.join(map(str, grid.shape))} voxels and {shown(other)} "
            f"{' x '.join(map(str, first.shape))}: all files of a case must be of one size."
        )
    apart = farthest_apart(first, grid)
    if apart > TOLERANCE:
        raise InputError(
            f"{shown(path)}: its affine puts it up to {apart:.1f} voxels away from {shown(other)}: resample it to that "
            "file's grid, or give it that file's affine if its voxels are in the same order."
        )


def _classes(array: np.ndarray, path: Path, labels: LabelMap) -> np.ndarray:
    try:
        return label_maps.to_classes(array, labels)
    except InputError as error:
        raise InputError(f"{shown(path)}: {error}") from error

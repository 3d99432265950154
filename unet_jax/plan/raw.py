"""nnU-Net's raw folders: a case's channels and mask, with the axes as SimpleITK has them, slices first.

Sources: nnunetv2 2.8.1, documentation/dataset_format.md and imageio/. Unlike the readers of unet_jax.data, nothing is
turned to the patient: a plan and its resampled cases are then nnU-Net's own.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from unet_jax.data.case import Case, check_finite
from unet_jax.data.formats.image_file import list_folder, read_file
from unet_jax.data.names import shown
from unet_jax.errors import InputError
from unet_jax.plan.dataset import Dataset, reader_of
from unet_jax.plan.fields import TEXT, Fields, raise_faults, read_object, sequence
from unet_jax.plan.raw_file import Read, decode
from unet_jax.wording import count

DESCRIPTION = "dataset.json"


@dataclasses.dataclass(frozen=True)
class RawCase:
    """The files of a case.

    Attributes:
        name: the case's.
        images: in the order of the channels; one file may hold several.
        mask: None where there is none.
        sidecar: the JSON with the spacing of a TIFF of several pages; None where there is none.
    """

    name: str
    images: tuple[Path, ...]
    mask: Path | None
    sidecar: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        beside = (self.mask, self.sidecar)
        return (*self.images, *(path for path in beside if path is not None))


def cases(root: Path, dataset: Dataset) -> list[RawCase]:
    """The training cases of a data set by name: those of the table "dataset" of its dataset.json, else of its folders.

    Raises:
        InputError: the table is not one of images and masks, or a folder cannot be read, or there is no case.
    """
    table = read_object(root / DESCRIPTION).get("dataset")
    found = _of_folders(root, dataset.file_ending) if table is None else _of_table(root, table)
    if not found:
        raise InputError(f"{shown(root / 'imagesTr')} has no file such as case_0000{dataset.file_ending}: add cases.")
    return sorted(found, key=lambda case: case.name)


def find(root: Path, dataset: Dataset, name: str) -> RawCase:
    """One training case.

    Raises:
        InputError: there is none of that name; or as `cases`.
    """
    found = {case.name: case for case in cases(root, dataset)}
    if name not in found:
        first = ", ".join(map(shown, list(found)[:3]))
        raise InputError(
            f"{shown(name)} is not one of the {len(found)} cases of {shown(root)} ({first}, …): choose one."
        )
    return found[name]


def load_file(path: Path) -> bytes:
    """The bytes of a file, or of what it is a link to, as data sets are often folders of links.

    Raises:
        InputError: it cannot be read.
    """
    place = path.resolve()
    return read_file(place.parent, Path(place.name))


def read(
    raw: RawCase, dataset: Dataset, reader: str | None = None, load: Callable[[Path], bytes] = load_file
) -> tuple[Case, dict[str, Any]]:
    """A case and where its voxels are.

    Args:
        raw: its files.
        dataset: whose case it is.
        reader: nnU-Net's reader that a plan names; else the one for the file's ending.
        load: gives the bytes of a file.

    Returns:
        The case, float32, channels last, with its spacing; and nnU-Net's geometry of it: the spacing, and for a volume
        "sitk_stuff" as SimpleITK has it (x first, in LPS).

    Raises:
        InputError: a file cannot be read, or channels and mask do not fit each other or `dataset`.
    """
    reader = reader or reader_of(dataset, flat=True)
    sidecar = None if raw.sidecar is None else load(raw.sidecar)
    images = [decode(load(path), path.name, reader, sidecar) for path in raw.images]
    channels = [channel for array, _ in images for channel in array]
    masks = [] if raw.mask is None else [decode(load(raw.mask), raw.mask.name, reader, sidecar)]
    raise_faults(shown(raw.name), _disagreements(raw, images, masks, dataset))
    image = np.stack(channels, axis=-1).astype(np.float32, copy=False)
    geometry = images[0][1]
    case = Case(raw.name, raw.name, image, masks[0][0][0].astype(np.uint8) if masks else None, geometry["spacing"])
    check_finite(case)
    return case, geometry


def _of_folders(root: Path, ending: str) -> list[RawCase]:
    pattern = re.compile(rf"(.+)_\d{{4}}{re.escape(ending)}")
    images: dict[str, list[Path]] = {}
    for name in list_folder(root, Path("imagesTr")):
        if found := pattern.fullmatch(name):
            images.setdefault(found[1], []).append(root / "imagesTr" / name)
    return [
        RawCase(
            name,
            tuple(paths),
            _if_there(root / "labelsTr" / f"{name}{ending}"),
            _if_there(root / "imagesTr" / f"{name}.json"),
        )
        for name, paths in images.items()
    ]


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _of_table(root: Path, table: Any) -> list[RawCase]:
    faults: list[str] = []
    fields = Fields(table, "dataset", faults)
    found = []
    for name in fields.rest():
        entry = fields.inner(name)
        images, mask = entry.take("images", sequence(TEXT)), entry.take("label", TEXT, None)
        if images is not None:
            place = [root / os.path.expandvars(path) for path in images]
            found.append(RawCase(name, tuple(place), None if mask is None else root / os.path.expandvars(mask)))
    raise_faults(str(root / DESCRIPTION), faults)
    return found


def _disagreements(raw: RawCase, images: list[Read], masks: list[Read], dataset: Dataset) -> list[str]:
    """What does not fit together, a line each."""
    first, spacing = images[0][0][0].shape, images[0][1]["spacing"]
    faults = []
    for path, (arrays, geometry) in zip(raw.files, [*images, *masks], strict=False):
        if arrays[0].shape != first:
            faults.append(
                f"{path.name} is {_by(arrays[0].shape)} and {raw.images[0].name} {_by(first)}: make them agree."
            )
        elif not np.allclose(geometry["spacing"], spacing):
            faults.append(
                f"{path.name} has a spacing of {_by(geometry['spacing'])} mm and {raw.images[0].name} of "
                f"{_by(spacing)}: make them agree."
            )
    channels = sum(len(arrays) for arrays, _ in images)
    if channels != len(dataset.channels):
        faults.append(f"it has {count(channels, 'channel')} and dataset.json {len(dataset.channels)}: make them agree.")
    for arrays, _ in masks:
        if len(arrays) != 1:
            faults.append(f"{raw.mask.name} has {len(arrays)} channels: a mask has one.")
        faults += _unknown_labels(arrays[0], raw.mask.name, dataset)
    return faults


def _unknown_labels(mask: Num[np.ndarray, "d h w"], name: str, dataset: Dataset) -> list[str]:
    known = np.zeros(256, bool)
    numbers = [*dataset.numbers, *([] if dataset.ignored is None else [dataset.ignored])]
    known[[number for number in numbers if number < len(known)]] = True
    if mask.min() >= 0 and mask.max() < len(known):
        small = mask.astype(np.uint8)
        if (mask.dtype == np.uint8 or np.array_equal(small, mask)) and known[small].all():
            return []
    unknown = sorted(set(np.unique(mask).tolist()) - set(np.flatnonzero(known).tolist()))
    values = ", ".join(f"{value:g}" for value in unknown[:5]) + (", …" if len(unknown) > 5 else "")
    return [f"{name} has voxels of {values}, which dataset.json has no label for: correct one of them."]


def _by(numbers: Sequence[int] | Sequence[float]) -> str:
    return " × ".join(f"{n:g}" for n in numbers)

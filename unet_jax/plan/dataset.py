"""What nnU-Net's dataset.json says: channels, labels or regions, cases and file type.

Source: nnunetv2 2.8.1, utilities/label_handling/label_handling.py, imageio/reader_writer_registry.py and
documentation/dataset_format.md.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_jax.data import regions
from unet_jax.data.regions import Classes
from unet_jax.plan.fields import OBJECT, TEXT, Fields, Kind, raise_faults, read_object, sequence, whole, written
from unet_jax.wording import count

# nnU-Net's readers with their endings, in the order in which they are tried.
READERS = {
    "NaturalImage2DIO": (".png", ".bmp", ".tif"),
    "SimpleITKIO": (".nii.gz", ".nrrd", ".mha", ".gipl"),
    "Tiff3DIO": (".tif", ".tiff"),
    "NibabelIO": (".nii", ".nii.gz"),
    "NibabelIOWithReorient": (".nii", ".nii.gz"),
}
_NAME = re.compile(r"Dataset\d{3}_.+")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in nnU-Net's terms.

    Attributes:
        name: as Dataset004_Hippocampus.
        channels: the names of the images of a case, in the file's order.
        labels: what each number of a mask stands for, background and "ignore" included; a tuple is a region of several.
        regions_order: for each region the number that a prediction has there, in the order they are painted; None
            unless there are regions.
        training_cases: how many.
        file_ending: of images and masks.
        reader: nnU-Net's reader that the file asks for; None where the ending decides.
    """

    name: str
    channels: tuple[str, ...]
    labels: Mapping[str, int | tuple[int, ...]]
    regions_order: tuple[int, ...] | None
    training_cases: int
    file_ending: str
    reader: str | None = None

    @property
    def ignored(self) -> int | None:
        """The number of voxels that nobody labelled, if there is one."""
        return self.labels.get("ignore")

    @property
    def numbers(self) -> tuple[int, ...]:
        """Every number that a mask may hold, the ignored one left out, in ascending order."""
        known = [value for name, value in self.labels.items() if name != "ignore"]
        return tuple(sorted({number for value in known for number in _several(value)}))

    @property
    def regions(self) -> tuple[tuple[int, ...], ...] | None:
        """The regions that are predicted, in the file's order; None where there are only labels.

        One value with several numbers makes all of them regions. Background is not one.
        """
        if not any(len(_several(value)) > 1 for value in self.labels.values()):
            return None
        return tuple(
            _several(value) for name, value in self.labels.items() if name != "ignore" and set(_several(value)) != {0}
        )

    @property
    def outputs(self) -> int:
        """Channels of the network's logits: one a region, or one a label with the background."""
        return len(self.numbers) if self.regions is None else len(self.regions)


def read_dataset(path: Path, name: str | None = None) -> Dataset:
    """Reads a dataset.json.

    Args:
        path: the file.
        name: the data set's; otherwise the nearest folder of a name like Dataset004_Hippocampus, or else the file's.

    Raises:
        InputError: it cannot be read, or something in it is wrong; each mistake is a line.
    """
    return from_json(read_object(path), name or _folder_name(path), str(path))


def from_json(values: Any, name: str, where: str = "dataset.json") -> Dataset:
    """The data set that a dataset.json describes; other keys than the known ones are ignored, as by nnU-Net.

    Raises:
        InputError: something in it is wrong; each mistake is a line.
    """
    faults = []
    fields = Fields(values, "", faults)
    # The key of version 1, which nnU-Net's planner still takes.
    channels = fields.take(
        "channel_names" if "channel_names" in fields or "modality" not in fields else "modality", _NAMES
    )
    labels = fields.take("labels", OBJECT)
    order = fields.take("regions_class_order", sequence(whole(0)), None)
    cases = fields.take("numTraining", whole(1))
    ending = fields.take("file_ending", TEXT)
    reader = fields.take("overwrite_image_reader_writer", TEXT, None)
    labels = {} if labels is None else _labels(labels, faults)
    # A reader that nnU-Net does not have is left to the ending, as nnU-Net does.
    dataset = Dataset(
        name, channels or (), labels, order, cases or 0, ending or "", reader if reader in READERS else None
    )
    if not faults:
        faults += _contradictions(dataset)
    raise_faults(where, faults)
    return dataset


def labels_of(classes: Classes, *, ignores: bool) -> dict[str, int | tuple[int, ...]]:
    """Labels of masks of 0 and the classes' numbers from 1, one class having no name; the ignored one comes last."""
    names = tuple(classes) or ("foreground",)
    numbers = [its[0] if len(its) == 1 else its for its in regions.members(classes)]
    ignored = {"ignore": regions.count_numbers(classes) + 1} if ignores else {}
    return {"background": 0} | dict(zip(names, numbers, strict=True)) | ignored


def reader_of(dataset: Dataset, *, flat: bool) -> str | None:
    """nnU-Net's reader for the files, or None where it has none.

    Args:
        dataset: whose files.
        flat: whether they are pictures: a .tif may be one or a volume.
    """
    if dataset.reader is not None:
        return dataset.reader
    readers = [reader for reader, endings in READERS.items() if dataset.file_ending.lower() in endings]
    if not flat and len(readers) > 1 and readers[0] == "NaturalImage2DIO":
        return readers[1]
    return readers[0] if readers else None


def _read_names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, dict) or not values or not all(isinstance(name, str) for name in values.values()):
        raise ValueError
    if {str(number) for number in range(len(values))} != set(values):
        raise ValueError
    return tuple(values.values())


_NAMES = Kind('an object of numbers from 0 and names, such as {"0": "T1", "1": "T2"}', _read_names)


def _labels(values: dict, faults: list[str]) -> dict[str, int | tuple[int, ...]]:
    labels = {}
    for name, value in values.items():
        kind = sequence(whole(0)) if isinstance(value, list) else whole(0)
        found = Fields({name: value}, "labels", faults).take(name, kind)
        if found is not None:
            labels[name] = found
    return labels


def _contradictions(dataset: Dataset) -> list[str]:
    faults = []
    labels, ignored, regions = dataset.labels, dataset.ignored, dataset.regions
    if labels.get("background") != 0 or isinstance(labels["background"], tuple):
        have = written(labels.get("background")) if "background" in labels else "missing"
        faults.append(f'labels.background is {have}: it must be the number 0, as {{"background": 0, …}}.')
    numbers = dataset.numbers
    if numbers != tuple(range(len(numbers))):
        faults.append(f"labels has the numbers {', '.join(map(str, numbers))}: they must be consecutive from 0.")
    elif ignored is not None and ignored != len(numbers):
        faults.append(f"labels.ignore is {written(ignored)}: it must be one more than the last label, {len(numbers)}.")
    if regions is not None and dataset.regions_order is None:
        faults.append("regions_class_order is missing: regions need it, one number for each in their order.")
    elif regions is not None and len(dataset.regions_order) != len(regions):
        faults.append(
            f"regions_class_order has {count(len(dataset.regions_order), 'number')} and labels "
            f"{count(len(regions), 'region')}: give one for each."
        )
    return faults


def _several(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _folder_name(path: Path) -> str:
    folders = [parent.name for parent in path.absolute().parents]
    return next(filter(_NAME.fullmatch, folders), folders[0])

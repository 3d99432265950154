"""What a dataset.json says: nnU-Net's, of both its versions, and the Medical Segmentation Decathlon's.

Version 2 has `channel_names`, `labels` by name and `file_ending`, and may name every file in `dataset`. Version 1 and
the Decathlon have `modality`, `labels` by number and the files in `training`; theirs are .nii.gz.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from unet_jax.data import labels as label_maps
from unet_jax.data import regions
from unet_jax.data.faults import Fault, FaultsError
from unet_jax.data.formats.nifti_listing import DESCRIPTION
from unet_jax.data.labels import LabelMap
from unet_jax.data.names import shown
from unet_jax.errors import InputError

ENDING = ".nii.gz"
# What stands for the signs of a label map in the name of a class.
AS_TEXT = str.maketrans({",": " ", "=": " ", "+": " "})


class Content(NamedTuple):
    """What dataset.json says.

    Attributes:
        channels: their names, in order.
        labels: values by name, as they stand there.
        order: regions_class_order, if there is one: the value that is written for each class, where classes overlap.
        ending: of the files, with its dot.
        cases: how many there are to train on, if it says so.
        training: the images and masks that version 1 lists.
        table: the files of each case that version 2 may list.
    """

    channels: tuple[str, ...]
    labels: Mapping[str, Any]
    ending: str
    cases: int | None
    training: Sequence[Mapping[str, str]]
    table: Mapping[str, Mapping[str, Any]] | None
    order: tuple[int, ...] | None = None


def read(path: Path) -> Content:
    """Reads a dataset.json.

    Raises:
        InputError: it cannot be read, or lacks what it must have.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = content["channel_names"] if "channel_names" in content else content["modality"]
        channels = tuple(str(names[str(n)]) for n in range(len(names)))
        labels = content["labels"]
        if all(key.isdecimal() for key in labels):
            labels = {name: int(value) for value, name in sorted(labels.items(), key=lambda item: int(item[0]))}
        ending = content["file_ending"] if "channel_names" in content else content.get("file_ending", ENDING)
        training = [entry for entry in content.get("training") or () if isinstance(entry, Mapping)]
        order = content.get("regions_class_order")
        order = None if order is None else tuple(int(value) for value in order)
        cases, listed = content.get("numTraining"), content.get("dataset")
        return Content(channels, dict(labels), ending, cases, training, listed, order)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): nnU-Net's raw layout needs it.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{path}: is not a description of a data set ({error!r}): it needs "channel_names" such as '
            '{"0": "FLAIR"}, "labels" such as {"background": 0, "tumour": 1}, and "file_ending", as of nnU-Net v2.'
        ) from error


def label_map(content: Content, path: Path) -> LabelMap:
    """The classes that a dataset.json names, and what it ignores.

    Raises:
        InputError: they cannot be used, such as two classes of the same values.
    """
    try:
        labels = {
            name: tuple(int(value) for value in (values if isinstance(values, list) else [values]))
            for name, values in content.labels.items()
            if name != label_maps.BACKGROUND
        }
    except (ValueError, TypeError) as error:
        raise InputError(
            f'{path}: is not a description of a data set ({error!r}): its "labels" must be numbers by name, such as '
            '{"background": 0, "tumour": 1}.'
        ) from error
    reserved = {label_maps.IGNORE: labels.pop(label_maps.IGNORE)} if label_maps.IGNORE in labels else {}
    label_maps.check(labels, f"{path}, labels (config.data.labels takes their place)", reserved)
    return label_maps.with_order(labels, content.order, f"{path}, regions_class_order") | reserved


def settings(labels: LabelMap) -> dict[str, str | tuple[int, ...]]:
    """A label map as config.data.labels has it and, where classes overlap, config.data.regions_class_order."""
    text = ", ".join(
        f"{' '.join(name.translate(AS_TEXT).split())}={'+'.join(map(str, values))}" for name, values in labels.items()
    )
    classes = label_maps.classes_of(labels)
    if not regions.overlap(classes):
        return {"labels": text}
    return {"labels": text, "regions_class_order": tuple(values[0] for values in classes.values())}


def inside(root: Path, name: object, faults: list[str]) -> Path | None:
    """A file that a dataset.json names, from `root`; None, and a fault, where it is not in there.

    Args:
        root: the data set's folder.
        name: as it stands there, a path from `root` or from the file system's top.
        faults: what is wrong is added to them.
    """
    text = str(name).removeprefix("./")
    path = PurePath(text)
    if path.is_absolute() and path.is_relative_to(root.resolve()):
        path = path.relative_to(root.resolve())
    if path.is_absolute() or ".." in path.parts or not path.parts:
        mistake = f"names {shown(text)}, which leads out of the folder: put the files there, and their paths from it."
        faults.append(Fault(DESCRIPTION, mistake, "leads out"))
        return None
    if not (root / path).is_file():
        mistake = f"names {shown(path)}, and there is no such file: restore it, or take it out."
        faults.append(Fault(DESCRIPTION, mistake, "no such file"))
        return None
    return Path(path)


def check_training(root: Path, content: Content) -> None:
    """Checks the files that `training` lists.

    Raises:
        InputError: some lead out of `root`, or are not there.
    """
    faults: list[str] = []
    for entry in content.training:
        for key in ("image", "label"):
            inside(root, entry.get(key, ""), faults)
    if faults:
        raise FaultsError(faults)

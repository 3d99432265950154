"""Layouts that two patterns describe: public data sets, nnU-Net's and the Decathlon's variants, telling names."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unet_jax.data.formats import dataset_json, known_layouts, lgg, pairing, proposals
from unet_jax.data.formats.file_sorts import VOLUME_SUFFIXES
from unet_jax.data.formats.nifti_listing import DESCRIPTION
from unet_jax.data.listing import entries, folder_named, has_suffix
from unet_jax.data.names import shown
from unet_jax.data.sides import side_folders
from unet_jax.errors import InputError

# A known data set may lie so deep: archives unpack into folders of their own.
LEVELS = 2
# Of so many folders at most, each is looked into.
FOLDERS = 32
# Folders of layouts that have readers of their own.
OF_READERS = {"imagestr", "lgg_mri"}
JPEG_SUFFIXES = (".jpg", ".jpeg")
# What is taken of a mask that was saved as JPEG, half of white.
THRESHOLD = 128


@dataclasses.dataclass(frozen=True)
class Described:
    """A layout and how it is read.

    Attributes:
        source: what config.data.source calls its reader.
        root: the folder that the patterns start from.
        name: what messages call it.
        images: pattern; empty where the reader needs none.
        masks: pattern.
        settings: other keys of config.data that such data need.
    """

    source: str
    root: Path
    name: str
    images: str = ""
    masks: str = ""
    settings: Mapping[str, str | int | tuple[int, ...]] = dataclasses.field(default_factory=dict)


def find(root: Path, labels: str | None = None) -> Described | None:
    """The layout of a folder; None where the readers of other layouts must know.

    What could be read before there were patterns is left to its reader, so that runs keep their data's fingerprint.

    Args:
        root: the folder.
        labels: config.data.labels, which takes the place of a description's.

    Raises:
        InputError: a folder or a description cannot be read.
    """
    paths = entries(root)
    tops = list(_tops(paths))
    of_json = [top for top in tops if (root / top / DESCRIPTION).is_file()]
    if of_json:
        return _of_description(root / of_json[0], labels) if len(of_json) == 1 else None
    if _holds_reader(root, paths):
        return None
    if found := _of_top(root, Path(), paths) or _of_sides(root, paths):
        return found if found.settings or found.images else None
    below = {top: found for top in tops[1:] if (found := _of_top(root, top, paths))}
    if below:
        return _only(root, below)
    best = proposals.best(paths)
    if best and best.is_whole and known_layouts.pairs(paths, best.images, best.masks):
        return _with_threshold(Described("patterns", root, "images and masks", best.images, best.masks))
    return None


def _of_top(root: Path, top: Path, paths: Sequence[Path]) -> Described | None:
    """The layout of a folder of the root, or of the root itself."""
    if (top == Path() or pairing.folders_of(root, top)) and (found := _of_pairs(root / top)):
        return found
    known = known_layouts.find(paths, top)
    return _with_threshold(Described("patterns", root / top, *dataclasses.astuple(known))) if known else None


def _of_sides(root: Path, paths: Sequence[Path]) -> Described | None:
    """A known layout that lies in each of the folders train, val and test."""
    sides = [folder.name for folder in side_folders(root).values()]
    known = known_layouts.find(paths, sides=sides) if sides else None
    return _with_threshold(Described("patterns", root, *dataclasses.astuple(known))) if known else None


def _only(root: Path, below: Mapping[Path, Described]) -> Described | None:
    """The layout of the only folder that has one; None where a reader must say which of several it reads."""
    highest = [top for top in below if not any(other in top.parents for other in below)]
    if all(not below[top].images for top in highest):
        found = below[highest[0]]
        return found if len(highest) == 1 and found.settings else None
    if len(highest) > 1:
        listed = ", ".join(f"{shown(top)} ({below[top].name})" for top in highest)
        raise InputError(f"{root}: holds several data sets: {listed}: name one of these folders as config.data.root.")
    return below[highest[0]]


def _of_description(root: Path, labels: str | None) -> Described | None:
    """What a dataset.json describes, unless it is NIfTI in the layout of nnU-Net, which has a reader."""
    folder, masks = folder_named(root, "imagesTr"), folder_named(root, "labelsTr")
    try:
        content = dataset_json.read(root / DESCRIPTION)
    except InputError:  # another program's, or damaged, which the reader of NIfTI says
        return None
    if content.table:
        return Described("listed", root, f"the files that {DESCRIPTION} names")
    if folder is None or masks is None:
        return None
    files, drawn = ([path.name for path in entries(root, place)] for place in (folder, masks))
    of_channels = [name for name in files if re.search(rf"_[0-9]{{4}}{re.escape(content.ending)}$", name)]
    of_decathlon = content.training and set(files) & set(drawn) and not (set(of_channels) - set(drawn))
    if not of_decathlon and content.ending in VOLUME_SUFFIXES:
        return None
    dataset_json.check_training(root, content)
    channel = "" if of_decathlon else r"_{channel:[0-9]{4}}"
    settings = {"labels": labels}
    if not labels:
        settings = dataset_json.settings(dataset_json.label_map(content, root / DESCRIPTION))
    name = "a task of the Medical Segmentation Decathlon" if of_decathlon else f"{content.ending} in nnU-Net's layout"
    images, of_masks = f"{folder}/{{case}}{channel}{content.ending}", f"{masks}/{{case}}{content.ending}"
    return Described("patterns", root, name, images, of_masks, settings)


def _of_pairs(root: Path) -> Described | None:
    """Pictures in images/ and masks/, or with masks beside them, if the reader of pairs finds a mask for each."""
    try:
        found = pairing.listed(root)
    except InputError:
        return None
    if found.faults or not found.images or found.images.keys() != found.masks.keys():
        return None
    jpeg = all(has_suffix(path, JPEG_SUFFIXES) for path in found.masks.values())
    return Described("pairs", root, "images and masks", settings={"mask_threshold": THRESHOLD} if jpeg else {})


def _with_threshold(found: Described) -> Described:
    """With the threshold that masks as JPEG need."""
    if not found.masks.lower().endswith(JPEG_SUFFIXES):
        return found
    return dataclasses.replace(found, settings={**found.settings, "mask_threshold": THRESHOLD})


def _tops(paths: Sequence[Path]) -> Iterator[Path]:
    """The root, and the folders below it that a data set may lie in, the highest first, as paths from it."""
    yield Path()
    folders = {folder for path in paths for folder in path.parents if 0 < len(folder.parts) <= LEVELS}
    if len(folders) <= FOLDERS:
        yield from sorted(folders, key=lambda folder: (len(folder.parts), folder))


def _holds_reader(root: Path, paths: Sequence[Path]) -> bool:
    """Whether a layout with a reader of its own lies in the root or below: nnU-Net's, TFDS's or Kaggle's LGG."""
    if any(part.casefold() in OF_READERS for path in paths for part in path.parts[:-1]):
        return True
    scans = (path.parent for path in paths if path.name.startswith(f"{path.parent.name}_") and path.parent.name)
    first = next(scans, None)
    return first is not None and lgg.is_scan(root / first)

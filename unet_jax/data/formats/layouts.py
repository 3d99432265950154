"""Which known layout lies in a folder, or in one below it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from unet_jax.data.formats import described_layouts, lgg, pairing
from unet_jax.data.formats.file_sorts import PICTURE_SUFFIXES, sort_of_file
from unet_jax.data.formats.folder_content import described
from unet_jax.data.formats.near_misses import MASK
from unet_jax.data.formats.proposals import proposal
from unet_jax.data.listing import entries, files_under, folder_named, folders
from unet_jax.data.names import shown
from unet_jax.data.sides import side_folders
from unet_jax.errors import InputError

# How deep a layout is looked for: Kaggle's archive has its scans in lgg-mri-segmentation/kaggle_3m.
LEVELS = 3


@dataclasses.dataclass(frozen=True)
class Layout:
    """A layout that was found.

    Attributes:
        source: what config.data.source calls it.
        root: the folder to read, which may lie below the one that was searched.
        note: a sentence that says so.
        settings: other keys of config.data that these data need, where the user has not set them.
    """

    source: str
    root: Path
    note: str
    settings: Mapping[str, str | int | tuple[int, ...]] = dataclasses.field(default_factory=dict)


def _has_tfds(root: Path) -> bool:
    """Whether it is, or holds, the data set that tfds_lgg.py builds; told without importing TFDS."""
    return (root / "dataset_info.json").is_file() or (root / "lgg_mri").is_dir()


def _has_pairs_apart(root: Path) -> bool:
    return pairing.folders_of(root) is not None


# Layouts that the entries of a folder tell, the surest first: source, what messages call it, whether it lies there.
KNOWN: Sequence[tuple[str, str, Callable[[Path], bool]]] = (
    ("nifti", "imagesTr (nnU-Net's layout)", lambda root: folder_named(root, "imagesTr") is not None),
    ("tfds", "lgg_mri, built with TFDS", _has_tfds),
    ("pairs", "images and masks", _has_pairs_apart),
    ("lgg", "folders of scans as of Kaggle's LGG data", lgg.holds_scans),
)


def keys(found: Layout, data: Mapping) -> dict[str, str | int | tuple[int, ...]]:
    """What the keys of `config.data` become for a layout: what the user has set stays.

    Args:
        found: the layout.
        data: the keys of `config.data`.
    """
    needed = {key: value for key, value in found.settings.items() if data[key] is None}
    if data["labels"] is not None:  # which may name several classes: of masks as JPEG, the reader says what to do
        needed.pop("mask_threshold", None)
    return {"source": found.source, "root": str(found.root), **needed}


def find(root: Path, labels: str | None = None) -> Layout:
    """The layout of a folder of images and masks.

    Args:
        root: the folder.
        labels: config.data.labels, which takes the place of what a description says.

    Raises:
        InputError: it is not a folder, cannot be read, holds none of the layouts, or several that could be meant.
    """
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder.")
    try:
        return _find(root, labels)
    except OSError as error:
        raise InputError(f"{root}: cannot be read ({error.strerror}): mend its permissions.") from error


def _find(root: Path, labels: str | None) -> Layout:
    found = described_layouts.find(root, labels)
    if found is None:
        return _by_readers(root)
    settings = {"images": found.images, "masks": found.masks, **found.settings} if found.images else found.settings
    flags = "".join(f", config.data.{key}={value!r}" for key, value in settings.items())
    where = "" if found.root == root else f" in {shown(found.root.relative_to(root))}, which is read"
    note = f"Data: {root} holds {found.name}{where} (config.data.source={found.source}{flags})."
    return Layout(found.source, found.root, note, settings)


def _by_readers(root: Path) -> Layout:
    if here := _known(root):
        source, what = here
        return Layout(source, root, f"Data: {root} holds {what} (config.data.source={source}).")
    sides = side_folders(root)
    if any(pairing.folders_of(root, folder) for folder in sides.values()):
        names = ", ".join(folder.as_posix() for folder in sides.values())
        return Layout("pairs", root, f"Data: {root} holds images and masks in {names} (config.data.source=pairs).")
    below = _below(root)
    loose = _loose_mask(root, below)
    if loose is None and below:
        return _only(root, below)
    if loose is not None and not below:
        return Layout("pairs", root, f"Data: {root} holds pictures with masks beside them (config.data.source=pairs).")
    if loose is not None:
        raise InputError(
            f"{root}: holds {_known(root / below[0])[1]} in {shown(below[0])}, and other pictures with masks beside "
            f"them, such as {shown(loose)}: name one folder as config.data.root, or read all as pictures with "
            "config.data.source=pairs."
        )
    found = entries(root)
    if any(sort_of_file(root / path) == "dicom" for path in found):
        note = f"Data: {root} holds DICOM, of which each study is a case (config.data.source=dicom)."
        return Layout("dicom", root, note)
    raise InputError(
        f"{root}: holds no layout that is known, but {described(found)}{proposal(found)}: say where images and masks "
        "lie with config.data.images and config.data.masks (docs/data.md)."
    )


def _known(root: Path) -> tuple[str, str] | None:
    return next(((source, what) for source, what, holds in KNOWN if holds(root)), None)


def _below(root: Path) -> list[Path]:
    """The folders below `root` that hold a known layout, as paths from it, the highest first."""
    found, level = [], folders(root)
    for _ in range(LEVELS):
        known = [path for path in level if _known(root / path)]
        found += known
        level = [path / name for path in level if path not in known for name in folders(root / path)]
    return found


def _only(root: Path, below: Sequence[Path]) -> Layout:
    """The layout in the first of these folders, if the others hold copies of it."""
    first, *others = below
    source, what = _known(root / first)
    content = _content(root / first)
    if any(_known(root / other)[0] != source or _content(root / other) != content for other in others):
        listed = ", ".join(f"{shown(path)} ({_known(root / path)[1]})" for path in below)
        raise InputError(
            f"{root}: holds several data sets: {listed}: name one of these folders as config.data.root; or put all "
            "into one folder, and a split of your own into config.data.split_file."
        )
    copies = f" The same files lie in {', '.join(map(shown, others))} again, and are not read." if others else ""
    place = root / first
    return Layout(
        source,
        place,
        f"Data: {root} holds {what} in {shown(first)}, which is read (config.data.root={place}, "
        f"config.data.source={source}).{copies}",
    )


def _content(root: Path) -> list[tuple[Path, int]]:
    return [(path, (root / path).stat().st_size) for path in entries(root)]


def _loose_mask(root: Path, below: Sequence[Path]) -> Path | None:
    """A mask among images, in none of the folders `below`; where there are some, it needs its image beside it."""
    pictures = files_under(root, PICTURE_SUFFIXES)
    images = {path.with_suffix("") for path in pictures}
    masks = (path for path in pictures if path.stem.casefold().endswith(MASK))
    loose = (path for path in masks if not any(path.is_relative_to(folder) for folder in below))
    return next((path for path in loose if not below or path.with_name(path.stem[: -len(MASK)]) in images), None)

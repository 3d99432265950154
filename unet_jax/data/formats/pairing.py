"""Which pictures of a folder are images, which are masks, and which belong together."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_jax.data.faults import Fault, FaultsError
from unet_jax.data.formats.file_sorts import PICTURE_SUFFIXES
from unet_jax.data.formats.near_misses import MASK, NearMisses
from unet_jax.data.listing import entries, files_under, folder_named, has_suffix
from unet_jax.data.names import shown
from unet_jax.data.sides import side_folders
from unet_jax.errors import InputError

IMAGES, MASKS = "images", "masks"

Named = dict[str, Path]


@dataclasses.dataclass(frozen=True)
class Part:
    """Where images lie and where their masks do, as paths from the root; the same place where they lie side by side."""

    images: Path
    masks: Path
    prefix: str = ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """Images and masks by name, a mask by its image's, and what is wrong with the names."""

    images: Named
    masks: Named
    faults: list[str]


def parts(root: Path) -> list[Part]:
    """The folders `images` and `masks` in a root, or in its folders train, val and test; else the root itself.

    Names of folders may be in capital letters.

    Raises:
        InputError: a folder cannot be read, or could be read two ways; or one side has the two folders and another
            has not.
    """
    if here := folders_of(root, Path()):
        return [here]
    sides = side_folders(root)
    found = {side: folders_of(root, folder) for side, folder in sides.items()}
    if not any(found.values()):
        return [Part(Path(), Path())]
    without = [sides[side] for side, part in found.items() if part is None]
    if without:
        raise FaultsError(
            Fault(
                root / folder,
                f"has no folders {IMAGES} and {MASKS}, which lie in the other sides' folders: add them, or move this "
                "folder out of the data set.",
            )
            for folder in without
        )
    return [part for part in found.values() if part]


def folders_of(root: Path, folder: Path = Path()) -> Part | None:
    """The folders `images` and `masks` in a folder of `root`; None unless both are there."""
    images, masks = (folder_named(root / folder, name) for name in (IMAGES, MASKS))
    prefix = f"{folder.as_posix()}/" if folder != Path() else ""
    return Part(folder / images, folder / masks, prefix) if images and masks else None


def listed(root: Path) -> Listing:
    """The pictures under a root by name: a path without suffix, from `images/` and `masks/` or else from the root.

    Raises:
        InputError: there is no picture, or see `parts`.
    """
    images: Named = {}
    masks: Named = {}
    faults: list[str] = []
    for part in parts(root):
        if part.images == part.masks:
            pictures = files_under(root, PICTURE_SUFFIXES, part.images)
            of_part = _by_name([path for path in pictures if not _is_mask(path)], part, faults)
            marked = _by_name([path for path in pictures if _is_mask(path)], part, faults)
            masks |= {_without_mark(name): path for name, path in marked.items()}
        else:
            of_part = _by_name(files_under(root, PICTURE_SUFFIXES, part.images), part, faults)
            masks |= _masks_apart(
                _by_name(files_under(root, PICTURE_SUFFIXES, part.masks), part, faults), of_part, faults
            )
        images |= of_part
    if not images and not masks:
        raise InputError(f"{root}: holds no picture ({', '.join(PICTURE_SUFFIXES)}): name a folder that does.")
    return Listing(images, masks, faults)


def _masks_apart(named: Named, images: Named, faults: list[str]) -> Named:
    """The masks of a folder of their own, by the image that each belongs to: of the same name, or with a mark."""
    masks = {name: path for name, path in named.items() if name in images or name == _without_mark(name)}
    for name, path in named.items():
        plain = _without_mark(name)
        if name in masks and plain != name and plain in images and plain not in named:
            both = f"{shown(images[name])} or of {shown(images[plain])}"
            faults.append(Fault(path, f"can be the mask of {both}: rename it or one of the images."))
        elif name not in masks and plain in masks:
            both = (
                f"{shown(images[plain])}, and so can {shown(masks[plain])}" if plain in images else shown(masks[plain])
            )
            faults.append(Fault(path, f"can be the mask of {both}: remove one of the two."))
        elif name not in masks:
            masks[plain] = path
    return masks


def unpaired(root: Path, images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[str]:
    """A fault for each image without a mask, with the file that may be it, and for each mask without an image."""
    missing, spare = images.keys() - masks.keys(), masks.keys() - images.keys()
    if not missing and not spare:
        return []
    layout = parts(root)
    beside = layout[0].images == layout[0].masks
    others = {name: masks[name] for name in spare} | ({name: images[name] for name in missing} if beside else {})
    near = NearMisses(images, others, [path for path in entries(root) if not has_suffix(path, PICTURE_SUFFIXES)])
    faults = []
    for name in sorted(missing):
        if images[name] not in near.named:
            faults.append(
                near.fault(name, [f"{place}{mark}" for place in _places(name, layout) for mark in ("", MASK)])
            )
    faults += [
        Fault(masks[name], "this mask has no image: add it or remove this file.")
        for name in sorted(spare)
        if masks[name] not in near.named
    ]
    return faults


def _places(name: str, layout: Sequence[Part]) -> list[str]:
    """The paths without suffix where the mask of an image of this name may lie."""
    return [(part.masks / name.removeprefix(part.prefix)).as_posix() for part in layout if name.startswith(part.prefix)]


def _is_mask(path: Path) -> bool:
    return path.stem.casefold().endswith(MASK)


def _without_mark(name: str) -> str:
    return name[: -len(MASK)] if name.casefold().endswith(MASK) else name


def _by_name(paths: Sequence[Path], part: Part, faults: list[str]) -> Named:
    named: Named = {}
    for path in paths:
        folder = part.images if path.is_relative_to(part.images) else part.masks
        name = part.prefix + path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            mistake = f"is called as {shown(named[name])} is: rename or remove one of them."
            faults.append(Fault(path, mistake, "called alike"))
        named.setdefault(name, path)
    return named

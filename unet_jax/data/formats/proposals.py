"""Two patterns for a folder that nobody described: those that would pair the most files."""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unet_jax.data.formats.folder_content import ending, mark, stem
from unet_jax.data.formats.patterns import IMAGES, MASKS
from unet_jax.data.formats.table import Suffixes
from unet_jax.data.listing import has_suffix
from unet_jax.data.sides import side_named
from unet_jax.wording import count

SUFFIXES = Suffixes("picture", "volume")
# Words in names of folders, and at the ends of names of files, that say what lies there.
OF_IMAGES = {"image", "images", "img", "imgs", "input", "scan", "scans", "original"}
OF_MASKS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "gt", "groundtruth", "truth", "seg"),
    *("segmentation", "segmentations", "manual1", "1stho", "target", "targets", "lesion"),
}
# Folders of one folder, of which none says what lies there, are alike if they are so many, and then a patient's each if
# they are so many: fewer may be sorts of pictures.
ALIKE, PATIENTS = 2, 6

# What tells a group's files apart: the names of their varying folders, and the part of the name that is the case's.
Key = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Two patterns.

    Attributes:
        images: the one's text.
        masks: the other's.
        pairs: how many images have a mask by them.
        is_whole: whether every image and every mask has the other, and names say which are the masks.
    """

    images: str
    masks: str
    pairs: int
    is_whole: bool


@dataclasses.dataclass(frozen=True)
class _Group:
    """Files whose paths differ in their fields alone.

    Attributes:
        before: the pattern up to the end of the name.
        mark: the word at the end.
        after: the suffix.
        keys: of its files.
    """

    before: str
    mark: str
    after: str
    keys: frozenset[Key]

    @property
    def text(self) -> str:
        return f"{self.before}{self.mark}{self.after}"

    @property
    def words(self) -> set[str]:
        return _words_of(re.sub(r"\{[^}]*\}", " ", self.text))

    def may_be_masks(self) -> bool:
        return bool(self.words & OF_MASKS) and self.after.lower() not in (".jpg", ".jpeg")


def proposal(paths: Sequence[Path]) -> str:
    """The flags to try, as the end of a sentence; empty where nothing pairs."""
    found = best(paths)
    if found is None:
        return ""
    flags = f"--{IMAGES}='{found.images}' --{MASKS}='{found.masks}'"
    return f"; these patterns would pair {count(found.pairs, 'image')} with masks: {flags}"


def best(paths: Sequence[Path]) -> Proposal | None:
    """The two patterns that pair the most files; None where no two kinds of files have names in common."""
    groups = list(_groups([path for path in paths if has_suffix(path, SUFFIXES)]))
    found: list[tuple[tuple, Proposal]] = []
    for masks in groups:
        for images in groups:
            pairs = len(images.keys & masks.keys)
            if images is masks or not pairs or images.words & OF_MASKS:
                continue
            channels = _channels(images, masks, groups)
            text = f"{images.before}{_joined(channels)}{images.after}" if len(channels) > 1 else images.text
            told = masks.may_be_masks()
            is_whole = told and images.keys == masks.keys and pairs > 1
            rank = (pairs, told, len(channels), masks.after.lower() not in (".jpg", ".jpeg"), not images.mark)
            found.append((rank, Proposal(text, masks.text, pairs, is_whole)))
    return max(found, key=lambda one: one[0])[1] if found else None


def _channels(images: _Group, masks: _Group, groups: Sequence[_Group]) -> list[str]:
    """The marks of the groups that are channels of the same cases, such as _flair and _t1."""
    alike = [
        group.mark
        for group in groups
        if (group.before, group.after, group.keys) == (images.before, images.after, images.keys)
        and group is not masks
        and not group.words & OF_MASKS
    ]
    return sorted(alike) if all(one and one[0] == alike[0][0] for one in alike) else [images.mark]


def _joined(marks: Sequence[str]) -> str:
    return f"{marks[0][0]}{{channel:{'|'.join(one[1:] for one in marks)}}}"


def _words_of(name: str) -> set[str]:
    """The words of a name, such as manual and mask of "ManualMask"."""
    return set(re.split("[^a-z0-9]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).casefold())) - {""}


def _groups(paths: Sequence[Path]) -> Iterator[_Group]:
    plain = [path for path in paths if not re.search(r"[{}*?\\]", path.as_posix())]
    varying = _varying(plain)
    templates = {folder: _template(folder, varying) for folder in {path.parent for path in plain}}
    ends = [(templates[path.parent], ending(path), mark(path)) for path in plain]
    told = Counter((template[0], suffix, last) for template, suffix, last in ends)
    groups: dict[tuple[str, str, str], set[Key]] = defaultdict(set)
    for path, ((folder, values), suffix, last) in zip(plain, ends, strict=True):
        own = last if told[folder, suffix, last] > 1 else ""
        case = stem(path).removesuffix(own)
        # A name that begins with its folder's says that twice.
        named = next((name for name, value in values.items() if case == value), None)
        before = f"{folder}{{{named}}}" if named else f"{folder}{{case}}"
        groups[before, own, suffix].add((*values.values(), *(() if named else (case,))))
    for (before, own, after), keys in sorted(groups.items()):
        yield _Group(before, own, after, frozenset(keys))


def _varying(paths: Sequence[Path]) -> Mapping[Path, str]:
    """Folders that are alike, with the name of their field: a split's side, a patient, or a folder of another sort."""
    children: dict[Path, set[Path]] = defaultdict(set)
    for folder in {parent for path in {path.parent for path in paths} for parent in (path, *path.parents)}:
        if folder != Path():
            children[folder.parent].add(folder)
    varying: dict[Path, str] = {}
    for folders in children.values():
        sides = {folder for folder in folders if side_named(folder.name)}
        plain = {folder for folder in folders if not _words_of(folder.name) & (OF_IMAGES | OF_MASKS)}
        if len(sides) > 1:
            varying |= dict.fromkeys(sides, "side")
        elif not sides and len(plain) >= ALIKE:
            varying |= dict.fromkeys(plain, "patient" if len(plain) >= PATIENTS else "folder")
    return varying


def _template(folder: Path, varying: Mapping[Path, str]) -> tuple[str, Mapping[str, str]]:
    """A folder as a pattern, and the values of its fields."""
    text, values = "", {}
    for part in [one for one in (*reversed(folder.parents), folder) if one != Path()]:
        name = varying.get(part)
        if name is None:
            text += f"{part.name}/"
            continue
        name = name if name not in values else f"{name}{len(values)}"
        values[name] = part.name
        text += f"{{{name}}}/"
    return text, values

"""What makes a score better than it is: images that are on two sides of a split, and sides with nothing to find."""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from unet_jax.data import labels, regions
from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, summary
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles, Digests
from unet_jax.data.regions import Classes, Members
from unet_jax.data.splits import SIDES, Split, slices_of
from unet_jax.errors import InputError
from unet_jax.wording import count

# What `check_leaks` may write in a run's folder.
FULL_LIST = "leaks.txt"
# Rows in the middle of a slice, which are compared first: few slices need a second look.
SAMPLE = 8
# A mask of fewer marked pixels may be the same as another by chance.
MARKED = 32
# The ends of names that tell the left of a body from its right.
LEFT_OR_RIGHT = re.compile(r"(?<![^\W\d_])(left|right|l|r|od|os)$", re.IGNORECASE)

# A slice: position in cases, number.
Place = tuple[int, int]


def check_leaks(
    split: Split,
    cases: Sequence[Case],
    listing: Sequence[CaseFiles] = (),
    digests: Digests | None = None,
    full_list: Path | None = None,
) -> list[str]:
    """Checks that no image is on two sides of a split.

    Images are the same if all their pixels are, whatever their files' names and formats; or if their files are the same
    byte for byte, whatever became of the pixels when the scans around them were normalised. Images of one value
    throughout, such as slices beyond the head, do not count.

    Args:
        split: of `cases`.
        cases: the data's.
        listing: their files, in the same order; with `digests`, files are compared too.
        digests: of the files.
        full_list: where all pairs are written if there are many.

    Returns:
        what may be a leak and need not, a sentence each.

    Raises:
        InputError: images are on two sides; they are named. A split by slice leaks by itself: there it is only said.
    """
    side_of = {place: side for side in SIDES for place in _places(split, cases, side)}
    groups = [*_same_pixels(cases, side_of), *_same_files(cases, listing, digests or {}, side_of)]
    across, within = _pairs(groups, side_of)
    name = _naming(cases, listing)
    notes = []
    if within:
        one, other = map(name, within[0])
        notes.append(
            f"{count(len(within), 'image is', 'images are')} on their side of the split twice, such as {one} and "
            f"{other}."
        )
    notes += [*_same_masks(cases, side_of, name), *_names_alike(split)]
    if not across:
        return notes
    faults = [
        Fault(
            name(other),
            f"is the same image as {name(one)}, and is on the {side_of[other]} side where that is on the "
            f"{side_of[one]} side: leave one out, or put both on one side.",
            "on two sides",
        )
        for one, other in across
    ]
    if split.split_by == "slice":
        return [*summary(faults, full_list).splitlines(), *notes]
    raise InputError(summary(faults, full_list))


def side_warnings(split: Split, cases: Sequence[Case], classes: Classes = ()) -> list[str]:
    """A sentence for each side on which nothing, or not every class, is marked.

    Args:
        split: of `cases`.
        cases: the data's.
        classes: several; empty for one.

    Raises:
        InputError: no mask has a marked pixel.
    """
    found = {side: _classes_there(_places(split, cases, side), cases, regions.members(classes)) for side in SIDES}
    if not any(found.values()):
        raise InputError(
            "No mask of the data has a marked pixel, so there is nothing to learn: check the masks, or say with "
            "config.data.labels which of their values count."
        )
    warnings = []
    for side, there in found.items():
        lacking = [shown(name) for number, name in enumerate(classes, 1) if number not in there]
        of_side = (
            f"the {len(getattr(split, side)):,} {'cases' if split.split_by == 'slice' else f'{split.unit}s'} of the"
        )
        if not there:
            warnings.append(f"No mask of {of_side} {side} side has a marked pixel: its scores say nothing.")
        elif lacking:
            names = ", ".join(lacking)
            warnings.append(f"No mask of {of_side} {side} side has {names}: its scores say nothing of that class.")
    return warnings


def _places(split: Split, cases: Sequence[Case], side: str) -> list[Place]:
    return [(position, number) for position, number in slices_of(split, cases, side).tolist()]


def _classes_there(places: Iterable[Place], cases: Sequence[Case], members: Members) -> set[int]:
    """Which classes, counted from 1, are marked in slices; no more slices are looked at once all are found."""
    missing = dict(enumerate(members, 1))
    for position, number in places:
        mask = labels.without_ignored(cases[position].mask[number])
        if mask.any():
            missing = {one: its for one, its in missing.items() if not regions.marked(mask, its).any()}
        if not missing:
            break
    return set(range(1, len(members) + 1)) - missing.keys()


def _same_pixels(cases: Sequence[Case], side_of: Iterable[Place]) -> Iterator[list[Place]]:
    """Groups of slices whose images are the same."""
    sampled: dict[bytes, list[Place]] = {}
    for position, number in side_of:
        image = np.asarray(cases[position].image)[number]
        middle = max(len(image) // 2 - SAMPLE // 2, 0)
        sampled.setdefault(_digest(image[middle : middle + SAMPLE], image.shape), []).append((position, number))
    for places in sampled.values():
        if len(places) > 1:
            yield from _grouped((place, np.asarray(cases[place[0]].image)[place[1]]) for place in places)


def _same_files(
    cases: Sequence[Case], listing: Sequence[CaseFiles], digests: Digests, side_of: Collection[Place]
) -> Iterator[list[Place]]:
    """Groups of slices, or of volumes, which stand for their first slices, that have an image file in common."""
    groups: dict[tuple[int, str], dict[Place, np.ndarray]] = {}
    for position, (case, files) in enumerate(zip(cases, listing, strict=False)):
        image = np.asarray(case.image)
        of_slices = len(files.first_channels) == len(image)
        for number, path in enumerate(files.images):
            slice_, channel = divmod(number, files.channels)
            place = (position, slice_ if of_slices else 0)
            if path in digests and place in side_of:
                pixels = image[slice_] if of_slices else image[..., channel]
                groups.setdefault(digests[path], {})[place] = pixels
    for group in groups.values():
        if len(group) > 1 and not all(map(_is_blank, group.values())):
            yield list(group)


def _same_masks(cases: Sequence[Case], side_of: Mapping[Place, str], name: Callable[[Place], str]) -> list[str]:
    """A sentence where marked masks of two sides are the same, as those of one patient in two sequences are."""
    masks = ((place, labels.without_ignored(cases[place[0]].mask[place[1]])) for place in side_of)
    marked = ((place, mask) for place, mask in masks if np.count_nonzero(mask) >= MARKED)
    across, _ = _pairs(_grouped(marked), side_of)
    if not across:
        return []
    one, other = (f"{name(place)} ({side_of[place]})" for place in across[0])
    return [
        f"{count(len(across), 'mask is', 'masks are')} the same on two sides of the split, such as those of {one} and "
        f"{other}: are they of one patient?"
    ]


def _names_alike(split: Split) -> list[str]:
    """A sentence where names on two sides may be one patient's: spelt in two ways, or left and right."""
    if split.split_by == "slice":
        return []
    alike: dict[tuple, dict[str, str]] = {}
    for side in SIDES:
        for name in getattr(split, side):
            plain = unicodedata.normalize("NFKC", name)
            stem = plain if split.unit == "patient" else LEFT_OR_RIGHT.sub("", plain)
            if split.unit == "patient" or stem != plain:
                words = re.findall(r"[0-9]+|[^\W\d_]+", stem.casefold())
                key = tuple(int(word) if word.isdecimal() else word for word in words)
                alike.setdefault(key, {}).setdefault(side, name)
    pairs = [names for key, names in alike.items() if key and len(names) > 1]
    if not pairs:
        return []
    listed = " and ".join(f"{shown(name)} ({side})" for side, name in pairs[0].items())
    what = "patients on two sides have names" if split.unit == "patient" else f"{split.unit}s on two sides are called"
    how = "that differ in signs or zeros alone" if split.unit == "patient" else "like left and right of one patient"
    return [
        f"{len(pairs):,} {what} {how}, such as {listed}: if they are one, name them alike by config.data.patient_csv."
    ]


def _pairs(
    groups: Iterable[Sequence[Place]], side_of: Mapping[Place, str]
) -> tuple[list[tuple[Place, Place]], list[tuple[Place, Place]]]:
    """Each of a group with the first of it: those on another side, and those of other cases on the same."""
    pairs = dict.fromkeys((group[0], other) for group in groups for other in group[1:] if other[0] != group[0][0])
    across = [(one, other) for one, other in pairs if side_of[one] != side_of[other]]
    return across, [(one, other) for one, other in pairs if side_of[one] == side_of[other]]


def _grouped(slices: Iterable[tuple[Place, np.ndarray]]) -> list[list[Place]]:
    """The slices of the same pixels, of more than one value, together; those without a second one are left out."""
    groups: dict[bytes, list[Place]] = {}
    for place, pixels in slices:
        if not _is_blank(pixels):
            groups.setdefault(_digest(pixels, pixels.shape), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _naming(cases: Sequence[Case], listing: Sequence[CaseFiles]) -> Callable[[Place], str]:
    """What messages call a slice: its file, if it has one of its own, or its case and number, from 0."""

    def name(place: Place) -> str:
        position, number = place
        files, depth = listing[position] if listing else None, len(cases[position].image)
        if files and len(files.first_channels) == depth:
            return shown(files.first_channels[number])
        volume = shown(files.images[0] if files and len(files.images) == 1 else cases[position].name)
        return volume if depth == 1 else f"{volume}, slice {number}"

    return name


def _is_blank(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels.reshape(-1)[0]).all())


def _digest(pixels: np.ndarray, shape: tuple[int, ...]) -> bytes:
    digest = hashlib.blake2b(f"{shape} {pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return digest.digest()

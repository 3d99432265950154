"""The files that two patterns match, as cases: channels, slices and masks put together by equal fields."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unet_jax.data.faults import Fault, lines_of
from unet_jax.data.formats.folder_content import described
from unet_jax.data.formats.patterns import CHANNEL, IMAGES, MASKS, PATIENT, SLICE, Fields, Pattern, parse, suffix
from unet_jax.data.formats.proposals import proposal
from unet_jax.data.formats.unmatched import Unmatched
from unet_jax.data.listing import check_links, entries
from unet_jax.data.names import shown
from unet_jax.data.patients import Patients
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

# What a data set is called whose files are all of one case, such as the slices of one stack.
ONLY = "stack"

# The fields that tell cases apart, and the number of a slice, 0 where there is none.
Key = tuple[str, ...]
Place = tuple[Key, int]


@dataclasses.dataclass(frozen=True)
class Matched:
    """The files of a folder by what they are.

    Attributes:
        images: by case and slice, then by channel.
        masks: by case and slice, in the order of their names.
        fields: of each case.
        others: what neither pattern matches.
        faults: what is wrong with the names.
    """

    images: Mapping[Place, Mapping[str, Path]]
    masks: Mapping[Place, Sequence[Path]]
    fields: Mapping[Key, Fields]
    others: Sequence[Path]
    faults: list[str]


def find(root: Path, images: Pattern, masks: Pattern, patients: Patients) -> list[CaseFiles]:
    """Lists the cases that two patterns describe, with all that is wrong with them.

    Args:
        root: the data set's folder.
        images: matches them.
        masks: matches them; a case's or slice's several masks are to be united.
        patients: whose a case is, by its name, where `images` has no field `patient`.

    Raises:
        InputError: a folder cannot be read, or `images` matches no file.
    """
    paths = entries(root)
    check_links(root, paths, {suffix(images), suffix(masks)})
    matched = match(paths, images, masks)
    if not matched.images:
        raise InputError(f"{images}: matches no file in {root}, which holds {described(paths)}{proposal(paths)}.")
    order, faults = _channels(matched, images)
    faults += [*matched.faults, *_unpaired(matched, images, masks)]
    return _cases(matched, order, images, patients, faults)


def find_images(root: Path, paths: Sequence[Path], images: Pattern, masks: Pattern | None) -> list[CaseFiles]:
    """The cases among files to predict on, without their masks.

    Args:
        root: where the paths start from.
        paths: of all files.
        images: matches them; folders that the pattern begins with may be missing.
        masks: matches what is passed over.

    Raises:
        InputError: no file matches.
    """
    for pattern in shortened(images):
        matched = match(paths, pattern, masks)
        if matched.images:
            order, faults = _channels(matched, pattern)
            without = dataclasses.replace(matched, masks={})
            return _cases(without, order, pattern, Patients(), faults + matched.faults)
    raise InputError(f"{images}, by which this run was trained, matches no file in {root}: name the files like it.")


def match(paths: Iterable[Path], images: Pattern, masks: Pattern | None) -> Matched:
    """What each of these paths is. Where both patterns match one, it is of the one with more fixed characters."""
    found: dict[Place, dict[str, Path]] = defaultdict(dict)
    of_masks: dict[Place, list[Path]] = defaultdict(list)
    fields: dict[Key, Fields] = {}
    others, faults = [], []
    for path in paths:
        one, two = images.match(path), masks.match(path) if masks else None
        if one is not None and two is not None:
            if images.fixed == masks.fixed:
                faults.append(Fault(path, f"is matched by {images} and by {masks}: say in what they differ."))
            one, two = (one, None) if images.fixed > masks.fixed else (None, two)
        if one is None and two is None:
            others.append(path)
            continue
        mine = one if two is None else two
        number = mine.get(SLICE)
        if number is not None and not number.isdecimal():
            faults.append(Fault(path, f"has {shown(number)!r} for {{slice}}, which must be a number.", "slice"))
            continue
        key = tuple(mine[name] for name in images.fields if name not in (CHANNEL, SLICE))
        place = key, int(number or 0)
        if two is not None:
            of_masks[place].append(path)
            continue
        fields.setdefault(key, one)
        channel = _as_listed(one.get(CHANNEL, ""), images.channels)
        if channel in found[place]:
            other = shown(found[place][channel])
            mistake = f"has the same fields as {other} by {images}: remove one of them, or add a field that differs."
            faults.append(Fault(path, mistake, "equal fields"))
        found[place].setdefault(channel, path)
    return Matched(found, of_masks, fields, others, faults)


def shortened(pattern: Pattern) -> Iterable[Pattern]:
    """A pattern, and the same without the folders it begins with, one less after the other."""
    parts = pattern.text.split("/")
    for start in range(len(parts)):
        try:
            yield parse("/".join(parts[start:]), pattern.key)
        except InputError:  # no field is left, or half of one
            return


def _as_listed(channel: str, words: Sequence[str] | None) -> str:
    """A channel in the pattern's own capital letters."""
    return next((word for word in words or () if word.casefold() == channel.casefold()), channel)


def _channels(matched: Matched, images: Pattern) -> tuple[Sequence[str], list[str]]:
    """The channels in order, and a fault for each case or slice that lacks some."""
    there = {channel for channels in matched.images.values() for channel in channels}
    order = [word for word in images.channels or () if word in there] or sorted(there, key=_natural)
    faults = []
    for channels in matched.images.values():
        missing = [channel for channel in images.channels or order if channel not in channels]
        if missing:
            mistake = f"lacks the channel {', '.join(map(shown, missing))} of {images}: add it, or take it out there."
            faults.append(Fault(next(iter(channels.values())), mistake, f"channels {missing}"))
    return order, faults


def _natural(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (0, text)


def _unpaired(matched: Matched, images: Pattern, masks: Pattern) -> list[str]:
    """A fault for each image without a mask, with what may be it, and for each mask without an image."""
    missing = [place for place in matched.images if place not in matched.masks]
    spare = [path for place, paths in matched.masks.items() if place not in matched.images for path in paths]
    near = Unmatched([*spare, *matched.others])
    faults = []
    for place in missing:
        path = next(iter(matched.images[place].values()))
        fields = images.match(path)
        faults.append(near.of_image(path, fields, masks))
    mistake = f"this mask by {MASKS} has no image by {IMAGES}: add it, remove this file, or mend the patterns."
    return faults + [Fault(path, mistake) for path in spare if path not in near.named]


def _cases(
    matched: Matched, order: Sequence[str], images: Pattern, patients: Patients, faults: list[str]
) -> list[CaseFiles]:
    slices: dict[Key, list[int]] = defaultdict(list)
    for key, number in sorted(matched.images):
        slices[key].append(number)
    names = _names(slices)
    cases = []
    for key, numbers in slices.items():
        patient = matched.fields[key].get(PATIENT)
        try:
            patient = patient or patients.place(names[key]).patient
        except InputError as error:
            faults += lines_of(error)
            continue
        of_slices = [matched.images[key, number] for number in numbers]
        of_masks = [matched.masks.get((key, number), ()) for number in numbers]
        cases.append(
            CaseFiles(
                name=names[key],
                patient=patient,
                images=tuple(channels[one] for channels in of_slices for one in order if one in channels),
                masks=tuple(path for paths in of_masks for path in paths),
                channels=len(order),
                parts=() if all(len(paths) < 2 for paths in of_masks) else tuple(map(len, of_masks)),
            )
        )
    if faults:
        cases.append(CaseFiles("listing", "", (), (), tuple(faults)))
    return cases


def _names(keys: Iterable[Key]) -> dict[Key, str]:
    """The names of cases: their fields' values, joined. A value that was there before is not repeated."""
    joined = {key: "_".join(dict.fromkeys(key)) or ONLY for key in keys}
    return joined if len(set(joined.values())) == len(joined) else {key: "/".join(key) for key in joined}

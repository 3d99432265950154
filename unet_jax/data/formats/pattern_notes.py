"""What a user should know of a folder beside what is read: files that are passed over, a split that lies there."""

from pathlib import Path

from unet_jax.data.formats import patterns
from unet_jax.data.formats.pattern_listing import Matched, match
from unet_jax.data.formats.patterns import Pattern
from unet_jax.data.formats.proposals import SUFFIXES
from unet_jax.data.listing import entries, has_suffix
from unet_jax.data.names import shown
from unet_jax.wording import count

SPLITS = "splits_final.json"
# Images that a note names.
EXAMPLES = 3


def of_files(root: Path, images: str | None, masks: str | None) -> list[str]:
    """How many images the patterns match, and which pictures and volumes neither does.

    Raises:
        InputError: the patterns cannot be used, or a folder cannot be read.
    """
    images_pattern, masks_pattern = patterns.parse_pair(images, masks)
    matched = match(entries(root), images_pattern, masks_pattern)
    files = sum(map(len, matched.images.values())), sum(map(len, matched.masks.values()))
    notes = [f"config.data.images matches {count(files[0], 'file')} and config.data.masks {files[1]:,}."]
    notes += _without_a_label(matched, masks_pattern, images_pattern)
    others = [path for path in matched.others if has_suffix(path, SUFFIXES)]
    if others:
        named = f"such as {shown(others[0])}" if len(others) > 1 else shown(others[0])
        notes.append(f"Neither matches {len(others):,} other images, {named}: they are not read.")
    return notes


def _without_a_label(matched: Matched, masks: Pattern, images: Pattern) -> list[str]:
    """Which classes have no file for some images: they may not be there, or their files may be missing."""
    class_of = patterns.class_of(images, masks)
    if class_of is None:
        return []
    found = {place: {class_of(path) for path in paths} for place, paths in matched.masks.items()}
    notes = []
    for label in masks.labels:
        lacking = [
            next(iter(channels.values()))
            for place, channels in matched.images.items()
            if label not in found.get(place, {label})
        ]
        if lacking:
            listed = ", ".join(map(shown, lacking[:EXAMPLES])) + (", …" if len(lacking) > EXAMPLES else "")
            notes.append(
                f"{len(lacking):,} of {len(matched.images):,} images have masks, but none of {shown(label)} "
                f"({listed}): they count as without it."
            )
    return notes


def of_split(root: Path) -> list[str]:
    """That nnU-Net's folds lie in a data set's folder or beside it."""
    for path in (root / SPLITS, root.parent / SPLITS):
        if path.is_file():
            return [f"{path} holds folds, which are not used: --config.data.split_file={path} takes them."]
    return []

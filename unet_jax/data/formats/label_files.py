"""Masks with a file for each class, which `{label:left|right}` in the pattern of the masks tells apart."""

from collections.abc import Callable
from pathlib import Path

from unet_jax.data import labels
from unet_jax.data.formats import patterns
from unet_jax.data.formats.patterns import Pattern
from unet_jax.data.labels import LabelMap
from unet_jax.errors import InputError


def label_map(images: Pattern, masks: Pattern, given: LabelMap | None) -> LabelMap | None:
    """The classes that a pattern of masks lists, numbered from 1; None where it lists none.

    Args:
        images: the pattern of the images.
        masks: that of the masks; its words "background" and "ignore" are not classes.
        given: config.data.labels: which values of every file are of the file's class, and which are ignored.

    Raises:
        InputError: the words cannot be classes, or `given` has several classes itself.
    """
    if patterns.class_of(images, masks) is None:
        return None
    if given is not None and len(labels.classes_of(given)) > 1:
        raise InputError(
            f"{masks} has a file for each class, and config.data.labels names {len(labels.classes_of(given))} classes "
            "within a file: leave out one of the two."
        )
    found = {word: (number,) for number, word in enumerate(masks.labels, 1)}
    if len(found) < len(masks.labels):
        raise InputError(f"{masks}: has a class twice: list each once.")
    reserved = {name: found.pop(name) for name in labels.RESERVED if name in found}
    labels.check(found, str(masks), reserved)
    if labels.IGNORE in (given or {}):
        reserved.setdefault(labels.IGNORE, given[labels.IGNORE])
    return found | reserved


def numbers(images: Pattern, masks: Pattern, given: LabelMap | None) -> Callable[[Path], int] | None:
    """The number of the class that a mask's file is of: see `label_map`; None where files are of no one class."""
    found, class_of = label_map(images, masks, given), patterns.class_of(images, masks)
    if found is None:
        return None
    number_of = {name: number for number, name in enumerate(labels.classes_of(found), 1)} | {
        labels.IGNORE: labels.IGNORED,
        labels.BACKGROUND: 0,
    }
    return lambda path: number_of[class_of(path)]

"""Which values, or colours, in a mask file mean which class: label maps such as "edema=1, core=2+3"."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import UInt8, UInt16

from unet_jax import wording
from unet_jax.data import regions
from unet_jax.data.names import UNUSABLE, shown
from unet_jax.errors import InputError

# Class name → its values in the files. The first name is class 1, the second class 2; 0 is background, and so are the
# values of the name BACKGROUND, which is not a class. Nor is IGNORE, whose pixels are left out of loss and scores. A
# colour is COLOUR with red, green and blue in the lower bytes. Classes that share values overlap: see `regions`.
LabelMap = Mapping[str, tuple[int, ...]]
BACKGROUND, IGNORE = RESERVED = ("background", "ignore")
COLOUR = 1 << 24

# What a mask of classes holds where the pixel is left out.
IGNORED = 255
MAX_CLASSES = IGNORED - 1
ORDER = "config.data.regions_class_order"
# DICOM allows no longer label.
MAX_NAME = 64
# Resampling and scaling leave whole numbers that are no further off.
ROUNDING = 1e-3
# A message spells out what to write of so many values.
SPELT_OUT = 3


def parse(text: str | None, order: Sequence[int] | None = None) -> LabelMap | None:
    """The label map written in `config.data.labels`; None for None.

    Args:
        text: as written there.
        order: config.data.regions_class_order: see `with_order`.

    Raises:
        InputError: the text is not a label map, or `order` is not for it.
    """
    if text is None and order is not None:
        raise InputError(f"{ORDER} is {tuple(order)}, and there are no config.data.labels that it is for: give both.")
    if text is None:
        return None
    labels = {}
    for entry in text.split(","):
        name, _, values = (part.strip() for part in entry.partition("="))
        try:
            numbers = tuple(_value(value.strip()) for value in values.split("+"))
        except ValueError:
            numbers = ()
        if not name or not numbers or name in labels:
            raise InputError(
                f"config.data.labels={text!r}: {entry.strip()!r} is not a new name with its values: write it like "
                "'tumour=255', 'edema=1, core=2+3' or 'tumour=#ff0000'."
            )
        labels[name] = numbers
    dropped = tuple(value for value in labels.pop(BACKGROUND, ()) if value not in (0, COLOUR))
    reserved = {BACKGROUND: dropped} if dropped else {}
    if IGNORE in labels:
        reserved[IGNORE] = labels.pop(IGNORE)
    check(labels, f"config.data.labels={text!r}", reserved)
    if order is not None and not regions.overlap(labels):
        raise InputError(f"{ORDER} is for classes that overlap, and config.data.labels={text!r} do not: leave it out.")
    return with_order(labels, order, ORDER) | reserved


def with_order(classes: LabelMap, order: Sequence[int] | None, source: str) -> LabelMap:
    """Classes as they are painted where they overlap: see `regions`; others as they are.

    Args:
        classes: without reserved names.
        order: the value that is written for each, in the order in which they stand; None for the usual one.
        source: what `order` is called.

    Raises:
        InputError: `order` has not one value for each class.
    """
    if not regions.overlap(classes):
        return classes
    return regions.ordered(classes) if order is None else regions.painted_with(classes, order, source)


def _value(text: str) -> int:
    if text.startswith("#") and len(text) == 7:
        return COLOUR | int(text[1:], 16)
    return int(text)


def written(value: int) -> str:
    """A value as `parse` reads it."""
    return f"#{value - COLOUR:06x}" if value >= COLOUR else str(value)


def in_colours(labels: LabelMap) -> bool:
    """Whether the classes are told apart by colours."""
    return any(value >= COLOUR for values in labels.values() for value in values)


def classes_of(labels: LabelMap) -> LabelMap:
    """The classes of a label map, without what counts as background or is ignored."""
    return {name: values for name, values in labels.items() if name not in RESERVED}


def numbers(labels: LabelMap) -> dict[int, tuple[int, ...]]:
    """What a mask of classes holds, background aside, and the values in the files that it stands for."""
    classes = classes_of(labels)
    parts = [(value,) for value in regions.values(classes)] if regions.overlap(classes) else classes.values()
    return dict(enumerate(parts, 1)) | ({IGNORED: labels[IGNORE]} if IGNORE in labels else {})


def check(labels: LabelMap, source: str, reserved: LabelMap = MappingProxyType({})) -> None:
    """Raises InputError, starting with `source`, unless classes differ and 0 is background.

    Args:
        labels: the classes.
        source: what the message begins with.
        reserved: values that count as background, or are ignored.
    """
    dropped = [value for several in reserved.values() for value in several]
    values = [*dropped, *(value for several in labels.values() for value in several)]
    unusable = [name for name in labels if len(name) > MAX_NAME or UNUSABLE.search(name)]
    if unusable:
        raise InputError(
            f"{source}: {shown(unusable[0])!r} is not a class name: it must have at most {MAX_NAME} printable "
            "characters."
        )
    if not labels or len(labels) > MAX_CLASSES:
        raise InputError(f"{source}: has {len(labels)} classes beside background; it must be from 1 to {MAX_CLASSES}.")
    if regions.count_numbers(labels) > MAX_CLASSES:
        raise InputError(
            f"{source}: its classes overlap and have {regions.count_numbers(labels)} values; it must be at most "
            f"{MAX_CLASSES}."
        )
    if 0 in values:
        raise InputError(f"{source}: 0 is background: leave it out.")
    if len({value >= COLOUR for value in values}) > 1:
        raise InputError(f"{source}: has both colours and numbers: write all as one of them.")
    twice = sorted({value for value in dropped if values.count(value) > 1})
    if twice:
        raise InputError(
            f"{source}: {_listed(twice)} is both {BACKGROUND} or {IGNORE} and something else: let it mean one of them."
        )
    _check_regions(labels, source)


def _check_regions(labels: LabelMap, source: str) -> None:
    """Raises InputError if a class has a value twice, or two classes have the same values."""
    for name, its in labels.items():
        twice = sorted({value for value in its if its.count(value) > 1})
        if twice:
            raise InputError(f"{source}: {name} has {_listed(twice)} twice: name it once.")
    by_values: dict[frozenset[int], str] = {}
    for name, its in labels.items():
        other = by_values.setdefault(frozenset(its), name)
        if other != name:
            raise InputError(f"{source}: {other} and {name} have the same values: leave one of them out.")


def to_classes(mask: np.ndarray, labels: LabelMap | None, threshold: int | None = None) -> UInt8[np.ndarray, "*shape"]:
    """The class of each pixel of a mask, 0 for background and IGNORED for what is left out.

    Args:
        mask: numbers of any type, up to `ROUNDING` from whole ones, or colours as in `LabelMap`.
        labels: the label map; without one, the mask must hold 0 and 1, or 0 and 255.
        threshold: where there is one class, pixels from this value on are it, and `labels` do not count.

    Raises:
        InputError: a value is not in the map or not a whole number. The message does not name the file.
    """
    if threshold is not None:
        return (mask >= threshold).astype(np.uint8)
    mask = _whole(mask)
    found = np.unique(mask).astype(np.int64)
    if labels is None:
        labels = {"foreground": (255,) if found[-1] == 255 else (1,)}
        needed = "0 and 1 or 0 and 255 only, or say what they mean with config.data.labels"
    else:
        needed = "0 and the values of the label map only, or add them to config.data.labels"
    classes = {value: number for number, its in numbers(labels).items() for value in its}
    background = {0, COLOUR, *labels.get(BACKGROUND, ())}
    others = [value for value in found.tolist() if value not in background and value not in classes]
    if others:
        known = "0 and " + _listed(sorted(classes))
        raise InputError(
            f"the mask has the values {_listed(others)} beside {known}: draw it in {needed}{_flag(others, labels)}."
        )
    result = np.zeros(mask.shape, np.uint8)
    for value, number in classes.items():
        result[mask == value] = number
    return result


def numbered(mask: UInt8[np.ndarray, "*shape"], number: int) -> UInt8[np.ndarray, "*shape"]:
    """A mask of one class with that class's number; what is IGNORED stays so."""
    return np.where(mask == 1, np.uint8(number), mask)


def _whole(mask: np.ndarray) -> np.ndarray:
    """A mask of real numbers as whole ones."""
    if mask.dtype.kind != "f":
        return mask
    whole = np.rint(mask)
    if not np.isfinite(mask).all():
        values = wording.count(int(np.count_nonzero(~np.isfinite(mask))), "value that is", "values that are")
        raise InputError(
            f"the mask has {values} NaN or infinite: save it with one "
            "number per class, and 0 where there is none; or set config.data.mask_threshold=1, which takes NaN as "
            "background."
        )
    if np.abs(mask - whole).max() > ROUNDING:
        raise InputError(
            "the mask has values that are not whole numbers: save it with one number per class, or set "
            "config.data.mask_threshold to the value from which on a pixel belongs to the only class."
        )
    return whole


def _flag(others: list[int], labels: LabelMap) -> str:
    """What would take these values: few of them as a class or background, and many as smeared black and white."""
    if len(others) > SPELT_OUT:
        return ", or, if it is black and white that JPEG smeared, set config.data.mask_threshold=128"
    spelt = {name: "+".join(map(written, its)) for name, its in labels.items() if name != BACKGROUND}
    more = "+".join(map(written, others))
    dropped = "+".join(map(written, (*labels.get(BACKGROUND, ()), *others)))
    joined = ", ".join(f"{name}={values}" for name, values in spelt.items())
    taken = f"'{joined}+{more}' to take them as the same, or " if len(spelt) == 1 else ""
    return f", such as {taken}'{joined}, {BACKGROUND}={dropped}' to leave them out"


def file_values(classes: LabelMap) -> list[int]:
    """What is written in a predicted mask for each number, in order from 1.

    This is the value in the training masks. If any number stands for several values, or one that a 16-bit picture
    cannot hold, every number is written as it is.
    """
    parts = list(numbers(classes).values())
    values = [part[0] for part in parts]
    own = all(len(part) == 1 for part in parts) and min(values) > 0 and max(values) < 2**16
    return values if own else list(range(1, len(parts) + 1))


def class_values(classes: LabelMap) -> list[int]:
    """What tells each class from the others in the names of files: its value in a predicted mask.

    Classes that overlap may be painted with the same one; then they are counted from 1.
    """
    values, painted = file_values(classes), regions.painted(classes)
    if painted is None:
        return values
    is_told_apart = len(set(painted)) == len(painted)
    return [values[number - 1] for number in painted] if is_told_apart else list(range(1, len(classes) + 1))


def to_values(
    mask: UInt8[np.ndarray, "*shape"], labels: LabelMap
) -> UInt8[np.ndarray, "*shape"] | UInt16[np.ndarray, "*shape"]:
    """A mask of classes as written to a file: 0 and the values of `file_values`, in 8 bits if they fit."""
    values = np.array([0, *file_values(labels)])
    return values.astype(np.uint8 if values.max() < 2**8 else np.uint16)[mask]


def without_ignored(mask: UInt8[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """A mask of classes with background where it is IGNORED; the same array where nothing is."""
    mask = np.asarray(mask)
    ignored = mask == IGNORED
    return np.where(ignored, np.uint8(0), mask) if ignored.any() else mask


def where_labelled(
    predicted: UInt8[np.ndarray, "*shape"], truth: UInt8[np.ndarray, "*shape"]
) -> UInt8[np.ndarray, "*shape"]:
    """A predicted mask with background where the true one is IGNORED; the same array where nothing is."""
    ignored = truth == IGNORED
    return np.where(ignored, np.uint8(0), predicted) if ignored.any() else predicted


def _listed(values: list[int]) -> str:
    return ", ".join(map(written, values[:5])) + (", …" if len(values) > 5 else "")

"""Which values in a mask file mean which class: label maps such as "edema=1, core=2+3"."""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import UInt8, UInt16

from unet_jax.data.names import UNUSABLE, shown
from unet_jax.errors import InputError

# Class name → its values in the files. The first name is class 1, the second class 2; 0 is background.
LabelMap = Mapping[str, tuple[int, ...]]

MAX_CLASSES = 255
# DICOM allows no longer label.
MAX_NAME = 64


def parse(text: str | None) -> LabelMap | None:
    """The label map written in `config.data.labels`; None for None.

    Raises:
        InputError: the text is not a label map.
    """
    if text is None:
        return None
    labels = {}
    for entry in text.split(","):
        name, _, values = (part.strip() for part in entry.partition("="))
        try:
            numbers = tuple(int(value) for value in values.split("+"))
        except ValueError:
            numbers = ()
        if not name or not numbers or name in labels:
            raise InputError(
                f"config.data.labels={text!r}: {entry.strip()!r} is not a new name with its values: write it like "
                "'tumour=255' or 'edema=1, core=2+3'."
            )
        labels[name] = numbers
    check(labels, f"config.data.labels={text!r}")
    return labels


def count(classes: Collection[str]) -> int:
    """The number of classes beside the background; a single class has no name."""
    return len(classes) or 1


def check(labels: LabelMap, source: str) -> None:
    """Raises InputError, starting with `source`, unless each value means one class and 0 is background."""
    values = [value for numbers in labels.values() for value in numbers]
    unusable = [name for name in labels if len(name) > MAX_NAME or UNUSABLE.search(name)]
    if unusable:
        raise InputError(
            f"{source}: {shown(unusable[0])!r} is not a class name: it must have at most {MAX_NAME} printable "
            "characters."
        )
    if not labels or len(labels) > MAX_CLASSES:
        raise InputError(f"{source}: has {len(labels)} classes beside background; it must be from 1 to {MAX_CLASSES}.")
    if 0 in values:
        raise InputError(f"{source}: 0 is background: leave it out.")
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise InputError(f"{source}: {_listed(twice)} stands for two classes: let each value mean one.")


def to_classes(mask: np.ndarray, labels: LabelMap | None) -> UInt8[np.ndarray, "*shape"]:
    """The class of each pixel of a mask, 0 for background.

    Args:
        mask: whole numbers of any type.
        labels: the label map; without one, the mask must hold 0 and 1, or 0 and 255.

    Raises:
        InputError: a value is not in the map or not a whole number. The message does not name the file.
    """
    if mask.dtype.kind == "f" and not (np.isfinite(mask).all() and np.array_equal(mask, np.rint(mask))):
        raise InputError("the mask has values that are not whole numbers: save it with one number per class.")
    found = np.unique(mask).astype(np.int64)
    if labels is None:
        labels = {"foreground": (255,) if found[-1] == 255 else (1,)}
        needed = "0 and 1 or 0 and 255 only, or say what they mean with config.data.labels"
    else:
        needed = "0 and the values of the label map only, or add them to config.data.labels"
    classes = {value: number for number, values in enumerate(labels.values(), 1) for value in values}
    others = [value for value in found.tolist() if value and value not in classes]
    if others:
        known = "0 and " + _listed(sorted(classes))
        raise InputError(f"the mask has the values {_listed(others)} beside {known}: draw it in {needed}.")
    result = np.zeros(mask.shape, np.uint8)
    for value, number in classes.items():
        result[mask == value] = number
    return result


def file_values(labels: LabelMap) -> list[int]:
    """The value of each class, in order, in a predicted mask.

    This is the class's value in the training masks. If any class has several values, or one that a 16-bit picture
    cannot hold, every class has its number instead, counted from 1.
    """
    values = [numbers[0] for numbers in labels.values()]
    own = all(len(numbers) == 1 for numbers in labels.values()) and min(values) > 0 and max(values) < 2**16
    return values if own else list(range(1, len(labels) + 1))


def to_values(
    mask: UInt8[np.ndarray, "*shape"], labels: LabelMap
) -> UInt8[np.ndarray, "*shape"] | UInt16[np.ndarray, "*shape"]:
    """A mask of classes as written to a file: 0 and the values of `file_values`, in 8 bits if they fit."""
    values = np.array([0, *file_values(labels)])
    return values.astype(np.uint8 if values.max() < 2**8 else np.uint16)[mask]


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")

"""Classes that overlap, nnU-Net's regions, such as "whole=1+2+4, core=1+4, enhancing=4".

A mask has one number a pixel, a class's number where classes exclude each other. Where they overlap it is the number of
a value, from 1 in ascending order of all values, and a class has several of them. A predicted mask is painted: each
class is drawn with one number, over the classes before it. That is the value which stands first in its entry of the
label map; nnU-Net lists them as regions_class_order.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from unet_jax import wording
from unet_jax.errors import InputError

# Names alone are of classes that exclude each other; a mapping has each one's values too, as `labels.LabelMap`.
Classes = Collection[str] | Mapping[str, tuple[int, ...]]
# For each class the numbers that it has in a mask.
Members = tuple[tuple[int, ...], ...]


def overlap(classes: Classes) -> bool:
    """Whether some value belongs to several classes."""
    values = _all(classes)
    return len(set(values)) < len(values)


def values(classes: Mapping[str, tuple[int, ...]]) -> list[int]:
    """All values of classes that overlap, in the order of their numbers in a mask."""
    return sorted(set(_all(classes)))


def count(classes: Classes) -> int:
    """How many classes there are beside the background; a single one has no name."""
    return len(classes) or 1


def count_numbers(classes: Classes) -> int:
    """How many numbers a mask holds beside background's; 1 for a single class, which has no name."""
    return len(values(classes)) if overlap(classes) else count(classes)


def members(classes: Classes) -> Members:
    """The numbers of each class in a mask; a single class without a name has the number 1."""
    if not overlap(classes):
        return tuple((number,) for number in range(1, count_numbers(classes) + 1))
    number_of = {value: number for number, value in enumerate(values(classes), 1)}
    return tuple(tuple(sorted(number_of[value] for value in its)) for its in classes.values())


def painted(classes: Classes) -> tuple[int, ...] | None:
    """The number that each class is painted with, in the order of painting; None unless classes overlap."""
    if not overlap(classes):
        return None
    return tuple(values(classes).index(its[0]) + 1 for its in classes.values())


def ordered(classes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Classes that overlap in an order to be painted in, nobody having said which.

    Those of more values come first, so that a part stands out of the whole. Each is painted with its first value that
    no later one has; with its first one where later ones have them all.
    """
    found = dict(sorted(classes.items(), key=lambda item: -len(item[1])))
    for place, (name, its) in enumerate(found.items()):
        later = {value for other in list(found.values())[place + 1 :] for value in other}
        found[name] = _first(its, next((value for value in its if value not in later), its[0]))
    return found


def painted_with(
    classes: Mapping[str, tuple[int, ...]], order: Sequence[int], source: str
) -> dict[str, tuple[int, ...]]:
    """Classes that overlap, painted in the order in which they stand, each with its value of `order`.

    Raises:
        InputError: `order`, which is called `source`, has not one value of its own for each class.
    """
    if len(order) != len(classes):
        raise InputError(
            f"{source} has {wording.count(len(order), 'value')}, and there are {len(classes)} classes "
            f"({', '.join(classes)}): give one for each, in their order."
        )
    wrong = [(value, name) for value, (name, its) in zip(order, classes.items(), strict=True) if value not in its]
    if wrong:
        value, name = wrong[0]
        listed = ", ".join(map(str, classes[name]))
        raise InputError(f"{source} has {value} for {name}, whose values are {listed}: give one of these.")
    return {name: _first(its, value) for value, (name, its) in zip(order, classes.items(), strict=True)}


def marked(mask: Shaped[np.ndarray, "*shape"], numbers: Sequence[int]) -> Bool[np.ndarray, "*shape"]:
    """Where a mask has one of a class's numbers."""
    return mask == numbers[0] if len(numbers) == 1 else np.isin(mask, numbers)


def paint(probability: Shaped[np.ndarray, "*shape k"], order: Sequence[int]) -> UInt8[np.ndarray, "*shape"]:
    """A mask of what is likelier than not, later classes over earlier ones; 0 elsewhere.

    Args:
        probability: of each class.
        order: of `painted`.
    """
    mask = np.zeros(probability.shape[:-1], np.uint8)
    for channel, number in enumerate(order):
        mask[probability[..., channel] > 0.5] = number
    return mask


def _all(classes: Classes) -> list[int]:
    return [value for its in classes.values() for value in its] if isinstance(classes, Mapping) else []


def _first(its: tuple[int, ...], value: int) -> tuple[int, ...]:
    return (value, *(other for other in its if other != value))

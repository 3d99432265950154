"""A trained network's arrays for another network: what fits is copied, what sees channels and classes is adapted."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from unet_jax.wording import count

Arrays = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Interface:
    """What goes into a network and what comes out.

    Attributes:
        channels: the names of the images' channels; None where nobody named them.
        classes: the names of several classes, background aside; empty for one.
        overlap: whether a pixel may be of several classes, so that background has no output.
        stacked: how often the channels stand in the network's input: once, or once for each neighbouring slice.
    """

    channels: tuple[str, ...] | None
    classes: tuple[str, ...]
    stacked: int = 1
    overlap: bool = False


@dataclasses.dataclass(frozen=True)
class Transferred:
    """The arrays to start from, and what became of each, by its path.

    Attributes:
        arrays: all of the network's.
        copied: as they were.
        adapted: to other channels or classes, each with a word on how.
        fresh: drawn, as nothing fits.
        left: the source's, which have no place here.
    """

    arrays: dict[str, np.ndarray]
    copied: list[str]
    adapted: dict[str, str]
    fresh: list[str]
    left: list[str]


def changing_axes(shapes: Callable[[int, int], Shapes], inputs: int, outputs: int) -> tuple[dict, dict]:
    """The axes on which a network's arrays hold its input channels, and those on which they hold its outputs.

    They are found by how shapes change with the numbers of both, so that any network will do.

    Args:
        shapes: of the network's arrays, by their paths, for so many inputs and outputs.
        inputs: channels of the network's input.
        outputs: channels of its logits.
    """
    here = shapes(inputs, outputs)
    # Multiples, as groups may have to divide the channels.
    return _differing(here, shapes(2 * inputs, outputs)), _differing(here, shapes(inputs, outputs + 1))


def _differing(one: Shapes, other: Shapes) -> dict[str, int]:
    found = {}
    for path, shape in one.items():
        axes = [
            axis for axis, sizes in enumerate(zip(shape, other.get(path, ()), strict=False)) if sizes[0] != sizes[1]
        ]
        if len(axes) == 1:
            found[path] = axes[0]
    return found


def transfer(
    own: Arrays, source: Arrays, seeing: Mapping[str, int], saying: Mapping[str, int], here: Interface, there: Interface
) -> Transferred:
    """Arrays of a network that starts from another's.

    Args:
        own: the network's, as they were drawn.
        source: the trained one's.
        seeing: of `changing_axes`: on which axis arrays hold input channels.
        saying: and on which outputs.
        here: what the network is for.
        there: what the trained one was for.
    """
    arrays, copied, adapted, fresh = dict(own), [], {}, []
    same_channels = None in (here.channels, there.channels) or here.channels == there.channels
    for path, drawn in own.items():
        found = source.get(path)
        if found is None or not _fits(drawn, found, seeing.get(path, saying.get(path))):
            fresh.append(path)
        elif path in seeing and not (same_channels and found.shape == drawn.shape):
            arrays[path], adapted[path] = _to_channels(found, seeing[path], drawn.shape[seeing[path]], here, there)
        elif path in saying and _outputs(here) != _outputs(there):
            arrays[path], how = _to_classes(drawn, found, saying[path], _outputs(here), _outputs(there))
            if how is None:
                fresh.append(path)
            else:
                adapted[path] = how
        elif found.shape == drawn.shape:
            arrays[path] = found
            copied.append(path)
        else:
            fresh.append(path)
    return Transferred(arrays, copied, adapted, fresh, sorted(source.keys() - own.keys()))


def _fits(drawn: np.ndarray, found: np.ndarray, axis: int | None) -> bool:
    """Whether two arrays are of one shape, but for the axis that may differ."""
    if drawn.ndim != found.ndim:
        return False
    return all(n == m or place == axis for place, (n, m) in enumerate(zip(drawn.shape, found.shape, strict=True)))


def _to_channels(
    found: np.ndarray, axis: int, inputs: int, here: Interface, there: Interface
) -> tuple[np.ndarray, str]:
    """The kernel of the first layer for other channels.

    Where both name their channels, those of one name have one kernel, and the others share what is left: each gets the
    mean of the source's other channels times their number over that of the others here, which is 0 where the source
    has none. Without names all channels are others. Where no channel is lost, the sum of all kernels is what it was: an
    image that is the same in all channels is answered as before.
    """
    before = found.shape[axis]
    kernels = np.moveaxis(found, axis, 0)
    places = _places(before, inputs, here, there)
    rest_there = [number for number in range(before) if number not in places.values()]
    rest_here = [number for number in range(inputs) if number not in places]
    made = np.zeros((inputs, *kernels.shape[1:]), found.dtype)
    for number, place in places.items():
        made[number] = kernels[place]
    if rest_there and rest_here:
        made[rest_here] = kernels[rest_there].mean(0) * (len(rest_there) / len(rest_here))
    how = f"from {count(before, 'channel')} to {inputs}"
    if places:
        named = dict.fromkeys(here.channels[number % len(here.channels)] for number in places)
        how += f", {', '.join(named)} by name"
    if rest_here:
        how += f", {len(rest_here)} {'as the mean' if rest_there else 'at 0'}"
    return np.moveaxis(made, 0, axis), how


def _places(before: int, inputs: int, here: Interface, there: Interface) -> dict[int, int]:
    """The input of the source for each input that has one of its name."""
    if here.channels is None or there.channels is None or here.stacked != there.stacked:
        return {}
    counts = len(here.channels), len(there.channels)
    if counts[0] * here.stacked != inputs or counts[1] * there.stacked != before:
        return {}  # a cascade's, with masks among its inputs
    return {
        slice_ * counts[0] + number: slice_ * counts[1] + there.channels.index(name)
        for slice_ in range(here.stacked)
        for number, name in enumerate(here.channels)
        if name in there.channels
    }


def _outputs(interface: Interface) -> tuple[str, ...]:
    """What the outputs are called; none of a single class."""
    if not interface.classes or interface.overlap:
        return interface.classes
    return ("background", *interface.classes)


def _to_classes(
    drawn: np.ndarray, found: np.ndarray, axis: int, outputs: Sequence[str], known: Sequence[str]
) -> tuple[np.ndarray, str | None]:
    """The head for other classes: background and those of equal name are the source's; None where nothing is."""
    if not outputs or not known or ("background" in outputs) != ("background" in known):
        # A sigmoid's logit is not one of a softmax, nor a single class one of several.
        return drawn, None
    taken = [name for name in outputs if name in known]
    if not taken:
        return drawn, None
    made = np.moveaxis(np.array(drawn), axis, 0)
    for number, name in enumerate(outputs):
        if name in known:
            made[number] = np.moveaxis(found, axis, 0)[known.index(name)]
    rest = [name for name in outputs if name not in known]
    how = f"{', '.join(taken)} by name" + (f", {', '.join(rest)} fresh" if rest else "")
    return np.moveaxis(made, 0, axis), how


def lines(found: Transferred, origin: str) -> list[str]:
    """What a user should be told of the weights that training starts from."""
    sizes = {path: math.prod(array.shape) for path, array in found.arrays.items()}
    numbers = sum(sizes[path] for path in found.copied)
    counts = f"{len(found.adapted)} adapted, {len(found.fresh)} fresh, {len(found.left)} of its own left out"
    told = [f"Starting from {origin}: {len(found.copied)} arrays ({numbers:,} numbers) are copied, {counts}."]
    told += [f"  adapted: {path}, {how}" for path, how in found.adapted.items()]
    for title, paths in (("fresh", found.fresh), ("left out", found.left)):
        if paths:
            paths = sorted(paths, key=lambda path: path.startswith("batch_stats"))  # parameters say more
            more = f" and {len(paths) - LISTED} more" if len(paths) > LISTED else ""
            told.append(f"  {title}: {', '.join(paths[:LISTED])}{more}")
    return told


# A line names so many arrays and counts the others.
LISTED = 8

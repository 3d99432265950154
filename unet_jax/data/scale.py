"""The scale of intensities that a network was trained on, and which cases are on another one, or clipped."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unet_jax.data.case import Case
from unet_jax.data.intensity import Image
from unet_jax.data.names import shown

PERCENTILES = (1, 50, 99)
# Values of a channel that its percentiles are taken of, about: a share's standard error is .22 % at most.
SAMPLED = 50_000
# A range of values is on another scale if it is so many times wider, or narrower, than any of training.
FACTOR = 4.0
# A case is clipped if its share of voxels at a channel's maximum is so much above the largest of training.
MARGIN = 0.05
# Cases that a warning describes.
EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Measured:
    """A case's intensities, as the network has them (8 bits as 0 to 1).

    Attributes:
        case: its name.
        type: of the image.
        percentiles: PERCENTILES of each channel.
        maxima: of each channel its highest value, and the share of voxels that have it.
    """

    case: str
    type: str
    percentiles: tuple[tuple[float, float, float], ...]
    maxima: tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class Scale:
    """Intensities of the training side.

    Attributes:
        types: of the images.
        channels: of each, the lowest and highest over the cases of every percentile, of the width between the outer
            two, and of the share of voxels at the maximum, which older runs do not have. Cases in which a channel has
            one value throughout do not count; None where that is all cases.
        mode: of `intensity.normalise`, as it was applied.
        matters: whether a channel reaches the network on the files' own scale, as a z-score does not.
    """

    types: tuple[str, ...]
    channels: tuple[Mapping[str, tuple[float, float]] | None, ...]
    mode: str
    matters: tuple[bool, ...]


def measure(name: str, image: Image) -> Measured:
    """The intensities of an image, normalised as the network is given it, from a sample of its voxels."""
    flat = np.asarray(image).reshape(-1, image.shape[-1])
    # An odd step does not stay in one column of pictures, whose sides are even.
    sample = flat[:: (len(flat) // SAMPLED) | 1].T.astype(np.float64, order="C")  # a channel's values side by side
    sample /= 255 if image.dtype == np.uint8 else 1
    found, highest = np.percentile(sample, PERCENTILES, axis=1), sample.max(axis=1)
    maxima = np.stack([highest, (sample == highest[:, None]).mean(axis=1)], axis=-1)
    return Measured(shown(name), str(image.dtype), *(tuple(map(tuple, of.tolist())) for of in (found.T, maxima)))


def record(cases: Iterable[Case]) -> dict[str, Any]:
    """What a run keeps of the intensities of its training side, as JSON; `read` makes a `Scale` of it."""
    measured = [measure(case.name, case.image) for case in cases]
    channels = []
    for number in range(len(measured[0].percentiles)):
        of_channel = [(one.percentiles[number], one.maxima[number][1]) for one in measured]
        values = [(*these, these[2] - these[0], share) for these, share in of_channel if these[2] > these[0]]
        columns = zip(*values, strict=True)
        names = ("low", "median", "high", "width", "at_maximum")
        channels.append({name: [min(of), max(of)] for name, of in zip(names, columns, strict=False)} or None)
    return {"types": sorted({one.type for one in measured}), "channels": channels}


def read(recorded: Mapping[str, Any] | None, mode: str, matters: Sequence[bool]) -> Scale | None:
    """What `record` kept; None for a run that kept nothing.

    Args:
        recorded: of the run.
        mode: see `Scale`.
        matters: see `Scale`.
    """
    if recorded is None:
        return None
    channels = (of and {name: tuple(map(float, ends)) for name, ends in of.items()} for of in recorded["channels"])
    return Scale(tuple(recorded["types"]), tuple(channels), mode, tuple(matters))


def warnings(scale: Scale | None, measured: Sequence[Measured], names: Sequence[str] = ()) -> list[str]:
    """What should be known of cases that are on another scale than training's, or clipped: a sentence each, if any.

    Args:
        scale: of training; None says nothing.
        measured: of the cases.
        names: of the channels.
    """
    if scale is None:
        return []
    lines = []
    if scale.mode != "volume" and (found := _described(measured, lambda one: _difference(scale, one, names))):
        remedy = "give images on the scale of training"
        if scale.mode == "auto":
            remedy += ", or train with config.data.intensity='volume'"
        verb = "is" if len(measured) == 1 else "are"
        lines.append(_sentence(found, measured, f"{verb} on another scale of intensities than training", remedy))
    if found := _described(measured, lambda one: _clipped(scale, one, names)):
        verb = "has" if len(measured) == 1 else "have"
        what = f"{verb} more voxels at the image's maximum than training, as clipped images do"
        lines.append(_sentence(found, measured, what, "give images whose brightness is not cut off"))
    return lines


def _described(measured: Iterable[Measured], describe: Callable[[Measured], str | None]) -> list[str]:
    return [f"{one.case}: {text}" for one in measured if (text := describe(one))]


def _sentence(found: Sequence[str], measured: Sequence[Measured], what: str, remedy: str) -> str:
    """What is so with these of the measured cases, the first of which are described."""
    more = f"; and {len(found) - EXAMPLES:,} more" if len(found) > EXAMPLES else ""
    subject = "1 case" if len(measured) == 1 else f"{len(found):,} of {len(measured):,} cases"
    return f"{subject} {what} ({'; '.join(found[:EXAMPLES])}{more}): {remedy}."


def _clipped(scale: Scale, one: Measured, names: Sequence[str]) -> str | None:
    """The first channel of which far more is at its maximum than in training; None if there is none."""
    for number, ((highest, share), known) in enumerate(zip(one.maxima, scale.channels, strict=True)):
        if known and "at_maximum" in known and known["at_maximum"][1] + MARGIN < share < 1:
            channel = f" of {names[number]}" if len(names) > 1 else ""
            value = highest * (255 if one.type == "uint8" else 1)
            return (
                f"{100 * share:.3g} %{channel} at {value:.4g} ({one.type}), where training had at most "
                f"{100 * known['at_maximum'][1]:.3g} %"
            )
    return None


def _difference(scale: Scale, one: Measured, names: Sequence[str]) -> str | None:
    """How a case differs; None if it does not."""
    of_training = " and ".join(scale.types)
    if scale.mode == "auto":
        ours = one.type == "uint8"
        if not any((type_ == "uint8") == ours for type_ in scale.types):
            stretched, kept = (of_training, one.type) if ours else (one.type, of_training)
            where = ("training had", "it has") if ours else ("it has", "training had")
            return (
                f"{where[0]} {stretched}, which is stretched by its percentiles to 0 to 1, and {where[1]} {kept}, "
                "which is left as it is"
            )
        if not ours:  # both are stretched
            return None
    for number, ((low, median, high), known) in enumerate(zip(one.percentiles, scale.channels, strict=True)):
        if scale.matters[number] and known and high > low and _is_far(median, high - low, known):
            channel = f" of {names[number]}" if len(names) > 1 else ""
            factor, factor_there = (255 if types == ("uint8",) else 1 for types in ((one.type,), scale.types))
            return (
                f"the median{channel} is {median * factor:.4g} and 98 % lie from {low * factor:.4g} to "
                f"{high * factor:.4g} ({one.type}), where training had {known['low'][0] * factor_there:.4g} to "
                f"{known['high'][1] * factor_there:.4g} ({of_training})"
            )
    return None


def _is_far(median: float, width: float, known: Mapping[str, tuple[float, float]]) -> bool:
    (lowest, _), (_, highest) = known["low"], known["high"]
    narrowest, widest = known["width"]
    aside = not lowest - widest <= median <= highest + widest
    return aside or width > FACTOR * widest or width < narrowest / FACTOR

"""What is odd about a data set: cases unlike the others, and masks that may be of something else."""

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np

from unet_jax.check.survey import Surveyed
from unet_jax.data.names import shown
from unet_jax.data.scale import FACTOR

# Names that a line lists.
EXAMPLES = 3
# A mask that lies outside of the image by this share of its voxels is odd.
OUTSIDE = 0.1
# Degrees from which on axes are oblique.
TILT = 20.0
# Fewer cases have no custom from which one could differ.
FEWEST = 5
# Channels in another order are looked for up to so many: six can be ordered in 720 ways.
MOST_CHANNELS = 6


def findings(
    cases: Sequence[Surveyed], channels: Sequence[str], classes: Sequence[str], axes: str = "patient"
) -> list[str]:
    """A sentence for each kind of oddity, with a count and examples.

    Args:
        cases: all of the data set.
        channels: their names.
        classes: the names of several; empty for one.
        axes: config.data.axes.
    """
    # Of other cases, whose channels are other ones, training says so.
    alike = [case for case in cases if len(case.ends) == len(channels)]
    found = [
        _unlike_the_others(cases, "size of slices", lambda case: case.shape[1:], lambda size: "x".join(map(str, size))),
        _unlike_the_others(cases, "spacing", _rounded_spacing, _spacing_text),
        *_lying_otherwise(cases, axes),
        _unmarked(cases),
        *_classes_in_no_case(cases, classes),
        _outside(cases),
        *_blank(alike, channels),
        _other_order(alike, channels),
        *_other_scale(alike, channels),
    ]
    return [line for line in found if line]


def _listed(names: Sequence[str]) -> str:
    more = ", …" if len(names) > EXAMPLES else ""
    return ", ".join(map(shown, names[:EXAMPLES])) + more


def _of(number: int, cases: Sequence[Surveyed]) -> str:
    return f"{number:,} of {len(cases):,} cases {'has' if number == 1 else 'have'}"


def _unlike_the_others(
    cases: Sequence[Surveyed], what: str, value: Callable[[Surveyed], Hashable], text: Callable
) -> str | None:
    """A line where more than half of the cases agree, and some do not."""
    usual, count = Counter(map(value, cases)).most_common(1)[0]
    others = [case for case in cases if value(case) != usual]
    if not others or count <= len(cases) / 2:
        return None
    listed = ", ".join(f"{shown(case.name)}: {text(value(case))}" for case in others[:EXAMPLES])
    more = ", …" if len(others) > EXAMPLES else ""
    return f"{_of(len(others), cases)} another {what} than the usual {text(usual)} ({listed}{more})."


def _rounded_spacing(case: Surveyed) -> tuple[float, ...] | None:
    # What differs in the fourth digit was written by another program, not by another scanner.
    return None if case.spacing is None else tuple(float(f"{mm:.3g}") for mm in case.spacing)


def _spacing_text(spacing: tuple[float, ...] | None) -> str:
    return "unknown" if spacing is None else f"{' x '.join(f'{mm:g}' for mm in spacing)} mm"


def _lying_otherwise(cases: Sequence[Surveyed], axes: str) -> list[str | None]:
    """Lines for files that lie otherwise in the body than most; by "patient" and "ras" they are all turned alike."""
    known = [case for case in cases if case.axes is not None]
    if not known:
        return []
    tilted = [case for case in known if case.axes.tilt > TILT]
    lines = []
    if tilted and len(tilted) <= len(known) / 2:
        listed = ", ".join(f"{shown(case.name)}: {case.axes.tilt:.0f}°" for case in tilted[:EXAMPLES])
        more = ", …" if len(tilted) > EXAMPLES else ""
        lines.append(
            f"{_of(len(tilted), known)} axes turned by more than {TILT:g}° away from the body's ({listed}{more}), and "
            "the others have not: the network sees them turned."
        )
    if axes == "file":
        lines.append(_unlike_the_others(known, "orientation", lambda case: case.axes.letters, str))
    return lines


def _unmarked(cases: Sequence[Surveyed]) -> str | None:
    empty = [case.name for case in cases if not case.is_marked]
    return f"{_of(len(empty), cases)} nothing marked ({_listed(empty)})." if empty else None


def _classes_in_no_case(cases: Sequence[Surveyed], classes: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(classes, 1):
        if not any(case.voxels[number] for case in cases):
            yield f"No case has the class {shown(name)}: check config.data.labels, or leave it out."


def _outside(cases: Sequence[Surveyed]) -> str | None:
    odd = [case for case in cases if case.outside > OUTSIDE]
    if not odd:
        return None
    listed = ", ".join(f"{shown(case.name)}: {case.outside:.0%}" for case in odd[:EXAMPLES])
    more = ", …" if len(odd) > EXAMPLES else ""
    return (
        f"{_of(len(odd), cases)} marked voxels outside of what the image shows, where it is 0 or air in every channel "
        f"({listed}{more}): is the mask of this image, and turned as it is?"
    )


def _blank(cases: Sequence[Surveyed], channels: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(channels):
        blank = [case.name for case in cases if case.ends[number][0] == case.ends[number][1]]
        if blank:
            yield f"{_of(len(blank), cases)} one value throughout in {shown(name)} ({_listed(blank)})."


def _other_order(cases: Sequence[Surveyed], channels: Sequence[str]) -> str | None:
    """A line for cases that look like the others once their channels are put in another order.

    A channel is described by its brightness and contrast relative to the case's other channels. In another order, a
    case must come within twice the usual distance of the median of all cases, and four times nearer than as it is.
    """
    if not 2 <= len(channels) <= MOST_CHANNELS or len(cases) < FEWEST:
        return None
    described = np.array([case.contrast for case in cases])  # [case, channel, feature]
    described -= described.mean(axis=1, keepdims=True)
    usual = np.median(described, axis=0)
    distances = np.linalg.norm(described - usual, axis=(1, 2))
    near = 2 * np.median(distances)
    odd = []
    for case, description, distance in zip(cases, described, distances, strict=True):
        orders = list(itertools.permutations(range(len(channels))))
        reordered = [np.linalg.norm(description[list(order)] - usual) for order in orders]
        best = int(np.argmin(reordered))
        if orders[best] != tuple(range(len(channels))) and reordered[best] <= min(near, distance / 4):
            odd.append(f"{shown(case.name)}: its files have {', '.join(_in_its_order(orders[best], channels))}")
    if not odd:
        return None
    more = "; …" if len(odd) > EXAMPLES else ""
    listed = "; ".join(odd[:EXAMPLES])
    return (
        f"{_of(len(odd), cases)} channels that look like those of the others in another order than "
        f"{', '.join(map(shown, channels))} ({listed}{more})."
    )


def _in_its_order(order: Sequence[int], channels: Sequence[str]) -> list[str]:
    """What the case's channels seem to be, in its order: its channel order[n] looks like channel n of the others."""
    return [shown(channels[order.index(number)]) for number in range(len(channels))]


def _other_scale(cases: Sequence[Surveyed], channels: Sequence[str]) -> Iterator[str]:
    """Lines for cases whose values spread far wider, or far less, than is usual."""
    for number, name in enumerate(channels):
        widths = np.array(
            [case.measured.percentiles[number][2] - case.measured.percentiles[number][0] for case in cases]
        )
        if len(cases) < FEWEST or not (usual := float(np.median(widths))):
            continue
        odd = [
            case.name
            for case, width in zip(cases, widths.tolist(), strict=True)
            if width and not usual / FACTOR <= width <= usual * FACTOR
        ]
        if odd:
            yield (
                f"{_of(len(odd), cases)} intensities in {shown(name)} that spread more than {FACTOR:g} times as far as "
                f"usual, or less than a quarter ({_listed(odd)})."
            )

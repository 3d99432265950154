"""The charts of the report's page, as SVG: scores along an axis, and curves over the epochs."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from xml.etree.ElementTree import Element

from unet_jax.report.markup import tag
from unet_jax.wording import count

# Dots nearer than this, as a share of the axis, are stacked.
GAP = 0.018
DOT, STACK_HEIGHT = 11, 150
# More patients than this are bars.
MOST_DOTS, BARS = 1000, 50
# Of the curves: width, height, and the margins that hold the axes' numbers.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 210, 38, 12, 20, 34
MOST_POINTS = 60

# Of an axis of scores, which is at least 0.06 long: the ticks' distances, and how many there are.
STEPS, LEAST_STEPS, MOST_STEPS = (0.02, 0.05, 0.1, 0.2), 3, 6

# Draws a dot or a bar over the axis, whose height it is given.
Mark = Callable[[float], Element]


@dataclasses.dataclass(frozen=True)
class Axis:
    """The part of a score's range that is drawn, from `low` to `high`, with a tick every `step`."""

    low: float
    high: float
    step: float

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the axis's beginning, 1 at its end."""
        return (value - self.low) / (self.high - self.low)

    def percent(self, value: float) -> str:
        """The same as SVG has it."""
        return _percent(self.place(value))

    @property
    def ticks(self) -> list[float]:
        """The values with a tick."""
        return [round(self.low + self.step * n, 6) for n in range(round((self.high - self.low) / self.step) + 1)]


def axis_of(values: Collection[float]) -> Axis:
    """The axis between the ticks around the values, from three to eight steps long and never outside of 0 to 1."""
    step = next(step for step in STEPS if math.ceil(max(values) / step) - math.floor(min(values) / step) <= MOST_STEPS)
    first, last = math.floor(min(values) / step + 1e-9), math.ceil(max(values) / step - 1e-9)
    missing = max(LEAST_STEPS - (last - first), 0)
    last = min(last + missing // 2, round(1 / step))
    first = max(last - max(LEAST_STEPS, last - first), 0)
    return Axis(first * step, max(last, first + LEAST_STEPS) * step, step)


@dataclasses.dataclass(frozen=True)
class Series:
    """A curve: its name, its class in the style sheet, and a value an epoch."""

    label: str
    style: str
    values: Sequence[float]


def dice_strip(scores: Mapping[str, float], spread: Mapping) -> Element:
    """A dot a patient along an axis, with mean, its 95 % interval and median; of many, a bar for each fiftieth of it.

    The axis has the part of 0 to 1 where the scores are.

    Args:
        scores: Dice by patient.
        spread: of `metrics.distribution`.
    """
    labels = (("mean", 13), ("median", 31))
    low, high = spread["ci95"]
    axis = axis_of([*scores.values(), low, high])
    marks, tall = _bars(scores, axis) if len(scores) > MOST_DOTS else _dots(scores, axis)
    floor = 44.0 + tall
    ticks = [
        tag("text", f"{value:g}", x=axis.percent(value), y=f"{floor + 20:.0f}", class_="tick") for value in axis.ticks
    ]
    width = _percent(axis.place(high) - axis.place(low))
    return tag(
        "svg",
        tag("rect", x=axis.percent(low), y="0", width=width, height=f"{floor:.1f}", class_="interval"),
        tag("line", x1="0%", x2="100%", y1=f"{floor:.1f}", y2=f"{floor:.1f}", class_="axis"),
        *ticks,
        *(_line(label, axis.place(spread[label]), y, floor) for label, y in labels),
        *(_label(f"{label} {spread[label]:.3f}", axis.place(spread[label]), y) for label, y in labels),
        *(mark(floor) for mark in marks),
        class_="strip",
        height=f"{floor + 26:.0f}",
        role="img",
        aria_label=(
            f"Dice of {count(len(scores), 'patient')}, from {min(scores.values()):.3f} to {max(scores.values()):.3f}: "
            f"mean {spread['mean']:.3f} (95 % interval {low:.3f} to {high:.3f}), median {spread['median']:.3f}."
        ),
    )


def _dots(scores: Mapping[str, float], axis: Axis) -> tuple[list[Mark], float]:
    """A dot for each patient, and how high they are stacked."""
    levels = stack(sorted(map(axis.place, scores.values())))
    step = min(DOT, STACK_HEIGHT / (max(levels) + 1))

    def dot(name: str, level: int) -> Mark:
        title = tag("title", f"{name}: {scores[name]:.3f}")
        return lambda floor: tag(
            "circle", title, cx=axis.percent(scores[name]), cy=f"{floor - step * (level + 0.5):.1f}", r="5"
        )

    names = sorted(scores, key=scores.__getitem__)
    return [dot(*one) for one in zip(names, levels, strict=True)], float(step * (max(levels) + 1))


def _bars(scores: Mapping[str, float], axis: Axis) -> tuple[list[Mark], float]:
    """A bar for each of BARS parts of the axis, and the height of the highest."""
    counts = [0] * BARS
    for value in scores.values():
        counts[min(int(axis.place(value) * BARS), BARS - 1)] += 1
    wide = (axis.high - axis.low) / BARS

    def bar(number: int, count: int) -> Mark:
        height = STACK_HEIGHT * count / max(counts)
        title = tag("title", f"{axis.low + number * wide:.3g} to {axis.low + (number + 1) * wide:.3g}: {count:,}")
        place = {"x": _percent(number / BARS), "width": _percent(1 / BARS), "height": f"{height:.1f}"}
        return lambda floor: tag("rect", title, **place, y=f"{floor - height:.1f}", class_="bar")

    return [bar(*one) for one in enumerate(counts) if one[1]], float(STACK_HEIGHT)


def _line(label: str, place: float, y: int, floor: float) -> Element:
    return tag("line", x1=_percent(place), x2=_percent(place), y1=y - 10, y2=f"{floor:.1f}", class_=label)


def _label(text: str, place: float, y: int) -> Element:
    side, shift = ("left", -6) if place > 0.5 else ("", 6)
    return tag("text", text, x=_percent(place), y=y, dx=shift, class_=f"label {side}")


def stack(values: Sequence[float]) -> list[int]:
    """The level of each dot, from 0, such that dots of one level are no nearer than `GAP`; `values` ascend."""
    last: list[float] = []
    levels = []
    for value in values:
        free = (level for level, other in enumerate(last) if value - other >= GAP)
        level = next(free, len(last))
        last[level : level + 1] = [value]
        levels.append(level)
    return levels


def curves(
    title: str, epochs: Sequence[int], series: Sequence[Series], marks: Mapping[str, int], top: float
) -> Element:
    """Values over the epochs, with a legend.

    Args:
        title: what the values are.
        epochs: their numbers.
        series: one value an epoch each.
        marks: epochs to be pointed out, by what they are.
        top: the axis goes from 0 to this.
    """
    first, last = epochs[0], max(epochs[-1], epochs[0] + 1)

    def across(epoch: int | float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - first) / (last - first)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value / top, 1)

    drawing = [*_grid(top, up), *_epoch_numbers(first, epochs[-1], across)]
    for label, epoch in marks.items():
        x = f"{across(epoch):.1f}"
        drawing.append(tag("line", x1=x, x2=x, y1=str(TOP), y2=str(HEIGHT - BOTTOM), class_="mark"))
        side = "left" if across(epoch) > WIDTH / 2 else ""
        drawing.append(tag("text", label, x=x, y=str(TOP - 8), class_=f"label {side}"))
    for one in series:
        points = [(across(epoch), up(value)) for epoch, value in zip(epochs, one.values, strict=True)]
        line = tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points))
        drawing.append(
            tag("g", line, *(_points(points, epochs, one) if len(epochs) <= MOST_POINTS else ()), class_=one.style)
        )
    ends = ", ".join(f"{one.label} from {one.values[0]:.3f} to {one.values[-1]:.3f}" for one in series)
    picture = tag(
        "svg",
        *drawing,
        tag("text", "epoch", x=f"{across((first + last) / 2):.0f}", y=str(HEIGHT - 2), class_="tick"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title} over {count(len(epochs), 'epoch')}: {ends}.",
    )
    legend = [tag("li", tag("span", class_=f"key {one.style}"), one.label) for one in series]
    return tag(
        "figure", tag("figcaption", tag("h3", title), tag("ul", *legend, class_="legend")), picture, class_="curves"
    )


def _points(points: Sequence[tuple[float, float]], epochs: Sequence[int], series: Series) -> list[Element]:
    return [
        tag("circle", tag("title", f"epoch {epoch}: {series.label} {value:.4f}"), cx=f"{x:.1f}", cy=f"{y:.1f}", r="3")
        for (x, y), epoch, value in zip(points, epochs, series.values, strict=True)
    ]


def _grid(top: float, up: Callable[[float], float]) -> list[Element]:
    step = nice_step(top / 5)
    drawing = []
    for number in range(math.floor(top / step + 1e-9) + 1):
        y = f"{up(number * step):.1f}"
        drawing.append(tag("line", x1=str(LEFT), x2=str(WIDTH - RIGHT), y1=y, y2=y, class_="grid"))
        drawing.append(tag("text", f"{number * step:g}", x=str(LEFT - 8), y=y, dy="4", class_="label left"))
    return drawing


def _epoch_numbers(first: int, last: int, across: Callable[[int], float]) -> list[Element]:
    step = max(round(nice_step((last - first) / 8)), 1)
    numbers = [number for number in range(first, last + 1) if number % step == 0] or [first]
    return [
        tag("text", str(number), x=f"{across(number):.1f}", y=str(HEIGHT - BOTTOM + 17), class_="tick")
        for number in numbers
    ]


def nice_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least so much."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"

"""The charts of the report's page, as SVG: scores along an axis, and curves over the epochs."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
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

# Draws a dot or a bar over the axis, whose height it is given.
Mark = Callable[[float], Element]


@dataclasses.dataclass(frozen=True)
class Series:
    """A curve: its name, its class in the style sheet, and a value an epoch."""

    label: str
    style: str
    values: Sequence[float]


def dice_strip(scores: Mapping[str, float], spread: Mapping) -> Element:
    """A dot a patient along an axis from 0 to 1, with mean, its 95 % interval and median; of many, a bar for each 0.02.

    Args:
        scores: Dice by patient.
        spread: of `metrics.distribution`.
    """
    labels = (("mean", 13), ("median", 31))
    low, high = spread["ci95"]
    marks, tall = _bars(scores) if len(scores) > MOST_DOTS else _dots(scores)
    floor = 44.0 + tall
    ticks = [tag("text", f"{n / 5:g}", x=_percent(n / 5), y=f"{floor + 20:.0f}", class_="tick") for n in range(6)]
    return tag(
        "svg",
        tag("rect", x=_percent(low), y="0", width=_percent(high - low), height=f"{floor:.1f}", class_="interval"),
        tag("line", x1="0%", x2="100%", y1=f"{floor:.1f}", y2=f"{floor:.1f}", class_="axis"),
        *ticks,
        *(_line(label, spread[label], y, floor) for label, y in labels),
        *(_label(label, spread[label], y) for label, y in labels),
        *(mark(floor) for mark in marks),
        class_="strip",
        height=f"{floor + 26:.0f}",
        role="img",
        aria_label=(
            f"Dice of {count(len(scores), 'patient')}, from {min(scores.values()):.3f} to {max(scores.values()):.3f}: "
            f"mean {spread['mean']:.3f} (95 % interval {low:.3f} to {high:.3f}), median {spread['median']:.3f}."
        ),
    )


def _dots(scores: Mapping[str, float]) -> tuple[list[Mark], float]:
    """A dot for each patient, and how high they are stacked."""
    levels = stack(sorted(scores.values()))
    step = min(DOT, STACK_HEIGHT / (max(levels) + 1))

    def dot(name: str, level: int) -> Mark:
        title = tag("title", f"{name}: {scores[name]:.3f}")
        return lambda floor: tag(
            "circle", title, cx=_percent(scores[name]), cy=f"{floor - step * (level + 0.5):.1f}", r="5"
        )

    names = sorted(scores, key=scores.__getitem__)
    return [dot(*one) for one in zip(names, levels, strict=True)], float(step * (max(levels) + 1))


def _bars(scores: Mapping[str, float]) -> tuple[list[Mark], float]:
    """A bar for each of BARS parts of the axis, and the height of the highest."""
    counts = [0] * BARS
    for value in scores.values():
        counts[min(int(value * BARS), BARS - 1)] += 1

    def bar(number: int, count: int) -> Mark:
        height = STACK_HEIGHT * count / max(counts)
        title = tag("title", f"{number / BARS:.2f} to {(number + 1) / BARS:.2f}: {count:,}")
        place = {"x": _percent(number / BARS), "width": _percent(1 / BARS), "height": f"{height:.1f}"}
        return lambda floor: tag("rect", title, **place, y=f"{floor - height:.1f}", class_="bar")

    return [bar(*one) for one in enumerate(counts) if one[1]], float(STACK_HEIGHT)


def _line(label: str, value: float, y: int, floor: float) -> Element:
    return tag("line", x1=_percent(value), x2=_percent(value), y1=y - 10, y2=f"{floor:.1f}", class_=label)


def _label(label: str, value: float, y: int) -> Element:
    side, shift = ("left", -6) if value > 0.5 else ("", 6)
    return tag("text", f"{label} {value:.3f}", x=_percent(value), y=y, dx=shift, class_=f"label {side}")


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

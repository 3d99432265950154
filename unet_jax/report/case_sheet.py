"""Sheets of cases with true and predicted outlines."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.colours import PREDICTED, TRUE, colour_of
from unet_jax.data import regions
from unet_jax.data.regions import Classes
from unet_jax.report.curves import write_figure

# matplotlib is imported where it draws: its 0.5 s would delay a run's first step.

SLICES_A_CASE = 6
# Of cases that are single pictures, side by side, and the inches of each.
PICTURES_A_ROW, OF_PICTURE = 3, 4
# Shares of a row of slices; a layout that matplotlib computes takes as long as the drawing.
BY_HAND = {"left": 0.005, "right": 0.995, "bottom": 0.04, "wspace": 0.04}


@dataclasses.dataclass(frozen=True)
class Example:
    """What is shown of a case: a few slices.

    Attributes:
        title: the case's.
        numbers: which slices, counted from 0.
        image: one of its sequences.
        truth: of 0 and 1, or of several classes.
        predicted: as `truth`.
        white: the brightest value of the whole case.
    """

    title: str
    numbers: list[int]
    image: UInt8[np.ndarray, "s h w"] | Float32[np.ndarray, "s h w"]
    truth: UInt8[np.ndarray, "s h w"]
    predicted: UInt8[np.ndarray, "s h w"]
    white: float


def of_case(
    title: str,
    image: UInt8[np.ndarray, "d h w"] | Float32[np.ndarray, "d h w"],
    truth: UInt8[np.ndarray, "d h w"],
    predicted: UInt8[np.ndarray, "d h w"],
) -> Example:
    """What is shown of a whole case, which need not be kept for it: slices spread over the tumour."""
    numbers = slices_to_show(truth, predicted)
    return Example(title, numbers, image[numbers], truth[numbers], predicted[numbers], float(image.max()))


def write(path: Path, examples: Sequence[Example], caption: str, classes: Classes = ()) -> None:
    """A sheet with a row a case: its slices, each with the true outline and the predicted one.

    Cases that are single pictures lie side by side, and are larger.

    Args:
        path: where the PNG goes.
        examples: the cases.
        caption: what they are from.
        classes: several, each with a colour of its own; empty for one.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    alone = all(example.numbers == [0] for example in examples)
    share = PICTURES_A_ROW if alone else 1
    shared = [examples[start : start + share] for start in range(0, len(examples), share)]
    heights = [*(OF_PICTURE if alone else 2.3 for _ in shared), 0.4]
    figure = Figure(figsize=(2 * SLICES_A_CASE, sum(heights)))
    *rows, foot = figure.subfigures(len(heights), 1, height_ratios=heights)
    for row, its in zip(rows, shared, strict=True):
        if alone:
            _draw_pictures(row, its, classes)
        else:
            _draw_case(row, *its, classes)
    true, predicted = (("0.4", "solid"), ("0.4", "dashed")) if classes else ((TRUE, "solid"), (PREDICTED, "solid"))
    lines = {"true": true, "predicted": predicted}
    lines |= {name: (colour_of(number), "solid") for number, name in enumerate(classes, 1)}
    handles = [Line2D([], [], color=colour, linestyle=style, label=label) for label, (colour, style) in lines.items()]
    legend = foot.legend(handles=handles, loc="center left", ncols=len(handles), frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    foot.text(0.99, 0.5, caption, fontsize=9, ha="right", va="center")
    write_figure(path, figure)


def slices_to_show(truth: UInt8[np.ndarray, "d h w"], predicted: UInt8[np.ndarray, "d h w"]) -> list[int]:
    """Slices spread evenly over those where either mask has tumour; over all of them where none has."""
    with_tumour = np.flatnonzero((truth | predicted).any((1, 2)))
    candidates = with_tumour if len(with_tumour) else np.arange(len(truth))
    places = np.linspace(0, len(candidates) - 1, min(SLICES_A_CASE, len(candidates)))
    return candidates[np.rint(places).astype(int)].tolist()


def _draw_case(row: "matplotlib.figure.SubFigure", example: Example, classes: Classes) -> None:
    row.suptitle(example.title, fontsize=10, x=0.01, y=0.99, ha="left")
    panels = row.subplots(1, SLICES_A_CASE, gridspec_kw=BY_HAND | {"top": 0.82})
    for panel in panels:
        panel.axis("off")
    for place, panel in enumerate(panels[: len(example.numbers)]):
        _draw_slice(panel, example, place, classes)
        panel.set_title(f"slice {example.numbers[place] + 1}", fontsize=8)


def _draw_pictures(row: "matplotlib.figure.SubFigure", examples: Sequence[Example], classes: Classes) -> None:
    panels = row.subplots(1, PICTURES_A_ROW, gridspec_kw=BY_HAND | {"top": 0.92})
    for panel in panels:
        panel.axis("off")
    for panel, example in zip(panels, examples, strict=False):
        _draw_slice(panel, example, 0, classes)
        panel.set_title(example.title, fontsize=10)


def _draw_slice(panel: "matplotlib.axes.Axes", example: Example, place: int, classes: Classes) -> None:
    panel.imshow(example.image[place], cmap="gray", vmin=0, vmax=max(example.white, 1e-6))
    truth, predicted = example.truth[place], example.predicted[place]
    outlines = [(truth, TRUE, "solid"), (predicted, PREDICTED, "solid")]
    if classes:
        styles = ((truth, "solid"), (predicted, "dashed"))
        outlines = [
            (regions.marked(mask, its), colour_of(number), style)
            for number, its in enumerate(regions.members(classes), 1)
            for mask, style in styles
        ]
    for mask, colour, style in outlines:
        if mask.any():
            panel.contour(mask, levels=[0.5], colors=colour, linestyles=style, linewidths=1.2)

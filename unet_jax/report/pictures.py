"""Pictures of a run: curves of training, and cases with true and predicted outlines."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.colours import colour_of
from unet_jax.files import write_bytes

# matplotlib is imported where it draws: its 0.5 s would delay a run's first step.

# Told apart by people with any kind of colour vision (Okabe & Ito 2008), on grey and on white.
TRUE, PREDICTED = "#009E73", "#E69F00"
TRAINING, VALIDATION = "#0072B2", "#D55E00"
SLICES_A_CASE = 6
# Shares of a row of slices; a layout that matplotlib computes takes as long as the drawing.
BY_HAND = {"left": 0.005, "right": 0.995, "bottom": 0.04, "wspace": 0.04}


@dataclasses.dataclass(frozen=True)
class Example:
    """A case to be shown: its title, one of its sequences, and both masks, of 0 and 1 or of several classes."""

    title: str
    image: UInt8[np.ndarray, "d h w"] | Float32[np.ndarray, "d h w"]
    truth: UInt8[np.ndarray, "d h w"]
    predicted: UInt8[np.ndarray, "d h w"]


def write_cases(path: Path, examples: Sequence[Example], caption: str, classes: Sequence[str] = ()) -> None:
    """A sheet with a row a case: slices spread over the tumour, the true outline and the predicted one.

    Args:
        path: where the PNG goes.
        examples: the cases.
        caption: what they are from.
        classes: the names of several, each with a colour of its own; empty for one.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    heights = [*(2.3 for _ in examples), 0.4]
    figure = Figure(figsize=(2 * SLICES_A_CASE, sum(heights)))
    *rows, foot = figure.subfigures(len(heights), 1, height_ratios=heights)
    for row, example in zip(rows, examples, strict=True):
        row.suptitle(example.title, fontsize=10, x=0.01, y=0.99, ha="left")
        panels = row.subplots(1, SLICES_A_CASE, gridspec_kw=BY_HAND | {"top": 0.82})
        for panel in panels:
            panel.axis("off")
        # strict is off: a case may have fewer slices than there are panels
        for panel, number in zip(panels, slices_to_show(example.truth, example.predicted), strict=False):
            _draw_slice(panel, example, number, classes)
    true, predicted = (("0.4", "solid"), ("0.4", "dashed")) if classes else ((TRUE, "solid"), (PREDICTED, "solid"))
    lines = {"true": true, "predicted": predicted}
    lines |= {name: (colour_of(number), "solid") for number, name in enumerate(classes, 1)}
    handles = [Line2D([], [], color=colour, linestyle=style, label=label) for label, (colour, style) in lines.items()]
    legend = foot.legend(handles=handles, loc="center left", ncols=len(handles), frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    foot.text(0.99, 0.5, caption, fontsize=9, ha="right", va="center")
    _write(path, figure)


def slices_to_show(truth: UInt8[np.ndarray, "d h w"], predicted: UInt8[np.ndarray, "d h w"]) -> list[int]:
    """Slices spread evenly over those where either mask has tumour; over all of them where none has."""
    with_tumour = np.flatnonzero((truth | predicted).any((1, 2)))
    candidates = with_tumour if len(with_tumour) else np.arange(len(truth))
    places = np.linspace(0, len(candidates) - 1, min(SLICES_A_CASE, len(candidates)))
    return candidates[np.rint(places).astype(int)].tolist()


def _draw_slice(panel: "matplotlib.axes.Axes", example: Example, number: int, classes: Sequence[str]) -> None:
    panel.imshow(example.image[number], cmap="gray", vmin=0, vmax=max(float(example.image.max()), 1e-6))
    truth, predicted = example.truth[number], example.predicted[number]
    outlines = [(truth, TRUE, "solid"), (predicted, PREDICTED, "solid")]
    if classes:
        styles = ((truth, "solid"), (predicted, "dashed"))
        numbers = range(1, len(classes) + 1)
        outlines = [(mask == of_class, colour_of(of_class), style) for of_class in numbers for mask, style in styles]
    for mask, colour, style in outlines:
        if mask.any():
            panel.contour(mask, levels=[0.5], colors=colour, linestyles=style, linewidths=1.2)
    panel.set_title(f"slice {number + 1}", fontsize=8)


def write_curves(path: Path, epochs: Sequence[dict]) -> None:
    """Loss and Dice over the epochs, the best epoch marked.

    Args:
        path: where the PNG goes.
        epochs: the history's records that close an epoch; at least one.
    """
    figure, loss, dice = _curves([epochs], marker="o", markersize=3)
    best = max(epochs, key=lambda record: record["val_dice"])
    dice.axvline(best["epoch"], color="0.6", linestyle=":", label=f"best: {best['val_dice']:.3f}")
    for panel in (loss, dice):
        panel.legend(fontsize=8)
    _write(path, figure)


def write_fold_curves(path: Path, epochs: Sequence[Sequence[dict]]) -> None:
    """Loss and Dice over the epochs, a line a fold.

    Args:
        path: where the PNG goes.
        epochs: of each fold, as `write_curves` takes them.
    """
    figure, loss, dice = _curves(epochs, alpha=0.6, linewidth=1)
    for panel in (loss, dice):
        lines, labels = panel.get_legend_handles_labels()
        once = dict(zip(labels, lines, strict=True))
        panel.legend(once.values(), once, fontsize=8)
    _write(path, figure)


def _curves(
    runs: Sequence[Sequence[dict]], **style: Any
) -> tuple["matplotlib.figure.Figure", "matplotlib.axes.Axes", "matplotlib.axes.Axes"]:
    """A figure of the runs' epochs, without a legend yet: itself, the panel of the loss and that of Dice."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4))
    # By hand as well: it is drawn after every epoch.
    loss, dice = figure.subplots(1, 2, gridspec_kw={"left": 0.08, "right": 0.99, "bottom": 0.15, "top": 0.9})
    for epochs in runs:
        numbers = [record["epoch"] for record in epochs]
        for panel, key, colour, label in (
            (loss, "train_loss", TRAINING, "training"),
            (dice, "train_dice", TRAINING, "training, mean over batches"),
            (dice, "val_dice", VALIDATION, "validation, mean over patients"),
        ):
            panel.plot(numbers, [record[key] for record in epochs], color=colour, label=label, **style)
    loss.set(xlabel="epoch", ylabel="loss", title="Loss")
    dice.set(xlabel="epoch", ylabel="Dice", title="Dice", ylim=(0, 1))
    for panel in (loss, dice):
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, loss, dice


def write_folds(path: Path, dice: Mapping[int, Sequence[float]]) -> None:
    """The Dice of each fold's patients: a dot a patient, a line at the fold's median.

    Args:
        path: where the PNG goes.
        dice: of the patients of each fold, by its number.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 * len(dice) + 2, 3.4), layout="constrained")
    panel = figure.subplots()
    for place, values in enumerate(dice.values()):
        # Beside each other in order, so that equal ones do not hide each other.
        across = place + np.linspace(-0.25, 0.25, len(values))
        panel.plot(across, sorted(values), "o", color=VALIDATION, markersize=3, alpha=0.7)
        panel.hlines(np.median(values), place - 0.35, place + 0.35, color=TRAINING)
    panel.set(xlabel="fold", ylabel="Dice per patient", title="Test patients by fold", ylim=(-0.02, 1.02))
    panel.set_xticks(range(len(dice)), [str(number) for number in dice])
    panel.grid(alpha=0.25, axis="y")
    panel.spines[["top", "right"]].set_visible(False)
    _write(path, figure)


def _write(path: Path, figure: "matplotlib.figure.Figure") -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_bytes(path, picture.getvalue())

"""Curves of training over the epochs, and the Dice of a cross-validation's folds."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.colours import TRAINING, VALIDATION
from unet_jax.files import write_bytes
from unet_jax.run.history import best_epoch

# matplotlib is imported where it draws: its 0.5 s would delay a run's first step.


def write(path: Path, epochs: Sequence[dict]) -> None:
    """Loss and Dice over the epochs, the best epoch marked.

    Args:
        path: where the PNG goes.
        epochs: the history's records that close an epoch; at least one.
    """
    figure, loss, dice = _curves([epochs], marker="o", markersize=3)
    best = best_epoch(epochs)
    label = "last: undefined" if best["val_dice"] is None else f"best: {best['val_dice']:.3f}"
    dice.axvline(best["epoch"], color="0.6", linestyle=":", label=label)
    for panel in (loss, dice):
        panel.legend(fontsize=8)
    write_figure(path, figure)


def write_folds(path: Path, epochs: Sequence[Sequence[dict]]) -> None:
    """Loss and Dice over the epochs, a line a fold.

    Args:
        path: where the PNG goes.
        epochs: of each fold, as `write` takes them.
    """
    figure, loss, dice = _curves(epochs, alpha=0.6, linewidth=1, marker="o", markersize=2)
    for panel in (loss, dice):
        lines, labels = panel.get_legend_handles_labels()
        once = dict(zip(labels, lines, strict=True))
        panel.legend(once.values(), once, fontsize=8)
    write_figure(path, figure)


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
            (loss, "val_loss", VALIDATION, "validation"),
            (dice, "train_dice", TRAINING, "training, mean over batches"),
            (dice, "val_dice", VALIDATION, "validation, mean over patients"),
        ):
            if any(key in record for record in epochs):  # old runs have no validation loss
                values = np.array([record.get(key) for record in epochs], float)
                panel.plot(numbers, values, color=colour, label=label, **style)
    loss.set(xlabel="epoch", ylabel="loss", title="Loss")
    dice.set(xlabel="epoch", ylabel="Dice", title="Dice", ylim=(0, 1))
    for panel in (loss, dice):
        # At least one epoch wide: else a single one has ticks at fractions.
        panel.set_xlim(*_widened(panel.get_xlim()))
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, loss, dice


def _widened(limits: tuple[float, float]) -> tuple[float, float]:
    middle, half = sum(limits) / 2, max((limits[1] - limits[0]) / 2, 0.6)
    return middle - half, middle + half


def write_dice_by_fold(path: Path, dice: Mapping[int, Sequence[float]]) -> None:
    """The Dice of each fold's patients: a dot a patient, a line at the fold's median.

    Args:
        path: where the PNG goes.
        dice: of the patients of each fold, by its number; without those for whom it is undefined.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 * len(dice) + 2, 3.4), layout="constrained")
    panel = figure.subplots()
    for place, values in enumerate(dice.values()):
        # Beside each other in order, so that equal ones do not hide each other.
        across = place + np.linspace(-0.25, 0.25, len(values))
        panel.plot(across, sorted(values), "o", color=VALIDATION, markersize=3, alpha=0.7)
        if values:
            panel.hlines(np.median(values), place - 0.35, place + 0.35, color=TRAINING)
    panel.set(xlabel="fold", ylabel="Dice per patient", title="Test patients by fold", ylim=(-0.02, 1.02))
    panel.set_xticks(range(len(dice)), [str(number) for number in dice])
    panel.grid(alpha=0.25, axis="y")
    panel.spines[["top", "right"]].set_visible(False)
    write_figure(path, figure)


def write_figure(path: Path, figure: "matplotlib.figure.Figure") -> None:
    """Writes a figure as a PNG.

    Raises:
        StorageError: the disk is full, read-only or failing; the old file, if any, is as it was.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_bytes(path, picture.getvalue())

"""How far a run has come: the records of its epochs, whether it is finished, and what it says on the way."""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int32
from ml_collections import ConfigDict

from unet_jax.run.history import best_epoch
from unet_jax.training.step import TrainState
from unet_jax.wording import count


def finished(config: ConfigDict, epochs: list[dict], most_steps: int | None = None) -> bool:
    """Whether all epochs are done, or validation has not improved for `config.train.patience` of them.

    Epochs before anything is found do not count: without normalisation a network predicts nothing for a while.

    Args:
        config: the run's.
        epochs: the records of those that are validated.
        most_steps: after which the run is over as well; None for no limit but the epochs.
    """
    if len(epochs) >= config.train.epochs:
        return True
    if not epochs:
        return False
    if most_steps is not None and epochs[-1]["step"] >= most_steps:
        return True
    if config.train.patience == 0 or not best_epoch(epochs)["val_dice"]:
        return False
    return len(epochs) - best_epoch(epochs)["epoch"] >= config.train.patience


def epoch_record(state: TrainState, epoch: int, validation: dict, loss: float | None, seconds: float) -> dict:
    """The history's record of an epoch: mean training loss and Dice, and validation scores of `summary.summarise`.

    `loss` is the validation side's; None where it is not finite, or not taken.
    """
    steps = int(state.totals["steps"]) or 1  # every step of the epoch was skipped
    return {
        "step": int(state.step),
        "epoch": epoch,
        "train_loss": float(state.totals["loss"]) / steps,
        "train_dice": float(state.totals["dice"]) / steps,
        "val_loss": loss,
        "val_dice": validation["dice_per_patient"]["mean"],
        "val_dice_per_slice": validation["dice_per_slice"]["mean"],
        "spikes": int(state.watch["spikes"]),
        "skipped": int(state.watch["skipped"]),
        "seconds": seconds,
    }


def epoch_line(epochs: list[dict], total_steps: int, steps_per_epoch: int) -> str:
    """The last epoch in a line, of a run of so many steps at most."""
    record, top = epochs[-1], best_epoch(epochs)
    validation = (
        "undefined in validation (nothing is marked, nothing found)"
        if record["val_dice"] is None
        else f"{record['val_dice']:.3f} validation (best {top['val_dice']:.3f} in epoch {top['epoch']})"
    )
    return (
        f"epoch {record['epoch']}/{-(-total_steps // steps_per_epoch)}: loss {record['train_loss']:.3f}, Dice "
        f"{record['train_dice']:.3f} training, {validation}, {record['seconds']:.0f} s{_unusual(record)}"
    )


def _unusual(record: dict) -> str:
    """How many steps so far had a gradient far over the usual, or were skipped; nothing if none."""
    spikes, skipped = record["spikes"], record["skipped"]
    return (f"; gradient spikes so far: {spikes}" if spikes else "") + (
        f"; steps skipped so far: {skipped}" if skipped else ""
    )


def description(
    config: ConfigDict,
    workdir: Path,
    label: str,
    cases: int,
    index: dict[str, Int32[np.ndarray, "n 2"]],
    state: TrainState,
) -> str:
    """What is about to be trained, on what and on whom."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    sizes = ", ".join(f"{side} {len(rows):,}" for side, rows in index.items())
    size = "×".join(map(str, config.data.patch or (config.data.image_size,) * 2))
    return (
        f"{workdir}: {config.model.name}, {parameters:,} parameters, {size}, batch {config.train.batch_size}, "
        f"on {count(jax.device_count(), f'{jax.devices()[0].platform} device')}.\n"
        f"{count(cases, 'case')} in {config.data.root}; slices: {sizes}; split {label}."
    )


def resumption(config: ConfigDict, workdir: Path, step: int, epochs: list[dict], total_steps: int) -> str:
    """What a resumed run says."""
    if finished(config, epochs, total_steps):
        return f"{workdir} is trained to its end; to train again, name another --workdir or delete it."
    return f"Resuming from step {step}, in epoch {len(epochs) + 1}."

"""The folds of a cross-validation on disk: each the folder `fold<k>` of an ordinary run."""

import csv
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from unet_jax.errors import InputError
from unet_jax.files import read_json
from unet_jax.metrics.cases import CLDICE, OBSERVERS, Row
from unet_jax.run import folder as run_folder
from unet_jax.run import history, manifest, resume
from unet_jax.run.config import read_config, read_flat_config
from unet_jax.training import budget, progress

# What the masks of a fold were scored with; all folds need the same.
SCORED_WITH = ("tta", "tiles", "surface_tolerance")
# Columns of cases.csv that are not numbers, whatever they look like.
TEXTS = ("case", "patient", "distance_unit", "volume_unit")


@dataclasses.dataclass(frozen=True)
class Fold:
    """A fold that is trained to its end and scored.

    Attributes:
        number: from 0.
        folder: of the run.
        config: the run's, flattened, with the data's fingerprint.
        metrics: of its test side, as metrics.json has them.
        rows: of its test side, as cases.csv has them.
        epochs: the records of its epochs.
    """

    number: int
    folder: Path
    config: dict
    metrics: dict
    rows: list[Row]
    epochs: list[dict]


def folder_of(workdir: Path, number: int) -> Path:
    """Where a fold's run lies."""
    return workdir / f"fold{number}"


def is_scored(workdir: Path) -> bool:
    """Whether the run in `workdir` is trained to its end, and its test side is scored with the checkpoint of that."""
    metrics = workdir / run_folder.EVALUATION / "test" / "metrics.json"
    if not metrics.exists():
        return False
    config = read_config(workdir)
    epochs = history.epochs_of(history.read(workdir))
    if not progress.finished(config, epochs, budget.most_steps(config, workdir)):
        return False
    scored = read_json(metrics)
    last = epochs[-1] if config.eval.checkpoint == "newest" else history.best_epoch(epochs)
    return scored["checkpoint"] == "last good" or scored["checkpoint_step"] == last["step"]


def read(workdir: Path) -> list[Fold]:
    """The folds in `workdir` that are trained and scored, in order.

    Raises:
        InputError: there is none, or they are not folds of one cross-validation.
    """
    folds = [
        _read(workdir, number) for number in run_folder.fold_numbers(workdir) if is_scored(folder_of(workdir, number))
    ]
    if not folds:
        raise InputError(
            f"{workdir} holds no fold that is trained and scored: train them with --mode=crossval --config=…, or one "
            "with --config.data.folds=5 --config.data.fold=0 and a --workdir that ends with fold0."
        )
    _check_alike(folds)
    return folds


def _read(workdir: Path, number: int) -> Fold:
    folder = folder_of(workdir, number)
    scores = folder / run_folder.EVALUATION / "test"
    config = read_flat_config(folder)
    if config["data.folds"] < 2 or config["data.fold"] != number:
        raise InputError(
            f"{folder} holds fold {config['data.fold']} of {config['data.folds']}: rename the folder, or train it "
            f"again with --config.data.fold={number}."
        )
    rows = read_rows(scores / "cases.csv")
    check_whole(scores)
    epochs = history.epochs_of(history.read(folder))
    return Fold(number, folder, config, read_json(scores / "metrics.json"), rows, epochs)


def read_rows(path: Path) -> list[Row]:
    """The rows of a cases.csv."""
    with open(path, newline="") as file:
        return [
            {key: text if key in TEXTS else _number(text) for key, text in row.items()} for row in csv.DictReader(file)
        ]


def check_whole(scores: Path) -> None:
    """Raises InputError unless the files of an evaluation are what was written; older ones have no manifest."""
    if (scores / manifest.MANIFEST).exists():
        faults = manifest.faults(scores, manifest.read_manifest(scores))
        if faults:
            raise InputError(
                f"{scores.parent.parent}: {'; '.join(faults)}: score the fold again with --mode=evaluate "
                f"--workdir={scores.parent.parent}."
            )


def _number(text: str) -> int | float | None:
    """What a cell held before it was written; empty ones are None."""
    if not text:
        return None
    return int(text) if re.fullmatch("-?[0-9]+", text) else float(text)


def _check_alike(folds: Sequence[Fold]) -> None:
    first = folds[0]
    for fold in folds[1:]:
        keys = [
            f"config.{key}"
            for key in sorted(first.config.keys() | fold.config.keys())
            if key != "data.fold" and not resume.is_harmless(key) and first.config.get(key) != fold.config.get(key)
        ]
        keys += [key for key in SCORED_WITH if first.metrics[key] != fold.metrics[key]]
        keys += [name for name in (CLDICE, *OBSERVERS) if (name in first.rows[0]) != (name in fold.rows[0])]
        if keys:
            raise InputError(
                f"{first.folder} and {fold.folder} differ in {', '.join(keys)}: train or score one of them as the "
                "other was."
            )

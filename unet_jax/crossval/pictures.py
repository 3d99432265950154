"""Pictures of a cross-validation: best, median and worst cases, segmented again by the network that was scored."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_jax.crossval.folds import Fold
from unet_jax.data import load
from unet_jax.inference import postprocess
from unet_jax.inference.network import load_network
from unet_jax.inference.segment import segment_cases
from unet_jax.inference.settings import SegmentSettings
from unet_jax.metrics.cases import Row
from unet_jax.report import case_sheet
from unet_jax.report.case_sheet import Example
from unet_jax.report.evaluation_files import example
from unet_jax.report.scores import share
from unet_jax.run.config import read_config
from unet_jax.runtime import compilation_cache
from unet_jax.runtime.mesh import prediction_mesh
from unet_jax.runtime.out_of_memory import explained

WORST = 5


def write(path: Path, folds: Sequence[Fold], rows: Sequence[Row]) -> None:
    """A sheet with the true and the predicted outlines of `chosen` cases.

    Args:
        path: where the PNG goes.
        folds: that the rows are of.
        rows: with their fold, worst Dice first.
    """
    wanted = chosen(rows)
    examples: dict[str, Example] = {}
    for fold in folds:
        its = {row["case"]: title for title, row in wanted if row["fold"] == fold.number}
        if its:
            examples |= _examples(fold, its)
    case_sheet.write(path, [examples[row["case"]] for _, row in wanted], f"test patients of {len(folds)} folds")


def chosen(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """The best case, the median and the five worst, each with its title; no case twice, nor one that is undefined."""
    rows = [row for row in rows if row["dice"] is not None] or rows
    places = {len(rows) - 1: "best", len(rows) // 2: "median"}
    for place in range(min(WORST, len(rows))):
        places.setdefault(place, "worst" if place == 0 else f"{place + 1}. worst")
    return [(_title(name, rows[place]), rows[place]) for place, name in places.items()]


def _title(name: str, row: Row) -> str:
    return f"{name}: {row['case']}, Dice {share(row['dice'])}, fold {row['fold']}"


def _examples(fold: Fold, titles: dict[str, str]) -> dict[str, Example]:
    """Of the cases in `titles`, by name, as the fold's network segments them with what they were scored with."""
    config = read_config(fold.folder, flips=fold.metrics["tta"], tiles=fold.metrics["tiles"])
    with explained(config):
        compilation_cache.use(config.train.compilation_cache)
        data = load.load(config)
        cases = data.cases
        index = [
            (place, number)
            for place, case in enumerate(cases)
            if case.name in titles
            for number in range(len(case.image))
        ]
        mesh = prediction_mesh(config.train.spatial)
        network, _ = load_network(fold.folder, config, mesh)
        settings = SegmentSettings.of_run(fold.folder, config, mesh)
        title = f"pictures of fold {fold.number}"
        found = segment_cases(network, cases, np.array(index, np.int32), settings, title=title)
        return {
            cases[place].name: example(
                titles[cases[place].name],
                cases[place],
                numbers,
                postprocess.apply(mask, settings.postprocess),
                data.shown,
            )
            for place, numbers, mask in found
        }

"""The files of an evaluation: metrics.json, cases.csv, cases.png and report.html, all of them or none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict

from unet_jax.data import labels
from unet_jax.data.case import Case
from unet_jax.data.formats import lgg, sources
from unet_jax.data.load import DataSet
from unet_jax.files import replace_folder
from unet_jax.inference import postprocess
from unet_jax.metrics.cases import Row
from unet_jax.metrics.summary import best_median_worst
from unet_jax.report import case_view, packed_masks, page, pictures, scores
from unet_jax.report.packed_masks import PackedMask
from unet_jax.run import folder as run_folder


def write(
    workdir: Path,
    config: ConfigDict,
    data: DataSet,
    masks: Mapping[int, PackedMask],
    summary: dict,
    rows: list[Row],
) -> None:
    """Writes `<workdir>/evaluation/<side>`; what was there before stays until all of it is written.

    Args:
        workdir: the run's folder.
        config: the run's.
        data: with the cases that were scored.
        masks: as predicted, by the position of their case.
        summary: of `summary.summarise`, with what was scored and how.
        rows: of the cases, worst Dice first.

    Raises:
        StorageError: the disk is full, read-only or failing; what was there before is as it was.
    """
    positions = {case.name: position for position, case in enumerate(data.cases)}
    classes = tuple(data.classes)

    def scored(row: Row) -> case_view.Scored:
        position = positions[row["case"]]
        mask = postprocess.apply(packed_masks.unpack(masks[position]), config.eval.postprocess.to_dict())
        return data.cases[position], masks[position].numbers, mask

    examples = [
        example(f"{title}: {row['case']}, Dice {row['dice']:.3f}", *scored(row))
        for title, row in best_median_worst(rows)
    ]
    is_lgg = config.data.source in sources.LGG_SOURCES and data.channels == len(lgg.SEQUENCES)
    with replace_folder(_folder(workdir, summary)) as folder:
        scores.write(folder, summary, rows)
        pictures.write_cases(folder / "cases.png", examples, f"{summary['split']}, {summary['split_by']}", classes)
        page.write(
            folder / "report.html",
            title=workdir.resolve().name,
            summary=summary,
            rows=rows,
            epochs=run_folder.epochs_of(run_folder.read_history(workdir)),
            config=config.to_dict(),
            sequences=lgg.SEQUENCES if is_lgg else [f"sequence {number + 1}" for number in range(data.channels)],
            first_sequence=lgg.FLAIR if is_lgg else 0,
            pictures=case_view.within_budget(map(scored, rows), page.BUDGET, labels.count(data.classes)),
        )


def show(workdir: Path, summary: dict, warnings: Sequence[str]) -> None:
    """Prints the headline scores, what a reader of them should know, and where the rest is."""
    print(scores.table(summary))
    for line in warnings:
        print(f"  {line}")
    print(f"  written to {_folder(workdir, summary)}: metrics.json, cases.csv, cases.png, report.html", flush=True)


def _folder(workdir: Path, summary: dict) -> Path:
    return workdir / run_folder.EVALUATION / summary["split"]


def example(
    title: str, case: Case, numbers: Int[np.ndarray, " s"], mask: UInt8[np.ndarray, "s h w"]
) -> pictures.Example:
    """A case to be shown with its masks; slices that were not scored have no outlines."""
    truth, predicted = np.zeros_like(case.mask), np.zeros_like(case.mask)
    truth[numbers], predicted[numbers] = case.mask[numbers], mask
    channel = min(lgg.FLAIR, case.image.shape[-1] - 1)
    return pictures.Example(title, np.asarray(case.image[..., channel]), truth, predicted)

"""The files of an evaluation: metrics.json, cases.csv, cases.png and report.html, all of them or none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict

from unet_jax.data import intensity, labels
from unet_jax.data.case import Case
from unet_jax.data.formats import orientation
from unet_jax.data.load import DataSet
from unet_jax.files import replace_folder
from unet_jax.inference import postprocess
from unet_jax.metrics.cases import Row
from unet_jax.metrics.summary import best_median_worst
from unet_jax.report import case_sheet, case_view, packed_masks, page, pages, provenance, scores
from unet_jax.report.case_sheet import Example
from unet_jax.report.packed_masks import PackedMask
from unet_jax.run import history, manifest


def write(
    folder: Path,
    workdir: Path,
    config: ConfigDict,
    data: DataSet,
    masks: Mapping[int, PackedMask],
    summary: dict,
    rows: list[Row],
) -> None:
    """Writes the files of an evaluation; what was there before stays until all of them are written.

    Args:
        folder: where they go.
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
    root = Path(config.data.root)

    def edges_of(case: Case) -> str | None:
        files = data.listing[positions[case.name]] if data.listing else None
        return files and orientation.edges(files, root, config.data.source, config.data.axes)

    def scored(row: Row) -> case_view.Scored:
        position = positions[row["case"]]
        settings = config.eval.postprocess.to_dict()
        mask = postprocess.apply(packed_masks.unpack(masks[position]), settings, data.classes)
        return data.cases[position], masks[position].numbers, mask

    examples = [
        example(f"{title}: {row['case']}, Dice {scores.share(row['dice'])}", *scored(row), data.shown)
        for title, row in best_median_worst(rows)
    ]
    with replace_folder(folder) as unfinished:
        scores.write(unfinished, summary, rows)
        case_sheet.write(unfinished / "cases.png", examples, f"{summary['split']}, {summary['split_by']}", data.classes)
        page.write(
            unfinished / pages.FIRST,
            title=workdir.resolve().name,
            summary=summary,
            rows=rows,
            epochs=history.epochs_of(history.read(workdir)),
            config=config.to_dict(),
            sequences=data.channel_names,
            first_sequence=data.shown,
            pictures=case_view.within_budget(map(scored, rows), page.BUDGET, data.classes, edges_of),
            origin=provenance.origin(folder, workdir, config, summary),
        )
        manifest.write_manifest(unfinished, {"checkpoint_step": summary["checkpoint_step"]})


def show(folder: Path, summary: dict, warnings: Sequence[str]) -> None:
    """Prints the headline scores, what a reader of them should know, and where the rest is."""
    print(scores.table(summary))
    for line in warnings:
        print(f"  {line}")
    print(f"  written to {folder}: metrics.json, cases.csv, cases.png, report.html", flush=True)


def example(
    title: str, case: Case, numbers: Int[np.ndarray, " s"], mask: UInt8[np.ndarray, "s h w"], channel: int
) -> Example:
    """What is shown of a channel of a case, with its masks; slices that were not scored have no outlines."""
    truth, predicted = np.zeros_like(case.mask), np.zeros_like(case.mask)
    marked = case.mask[numbers]
    truth[numbers], predicted[numbers] = labels.without_ignored(marked), labels.where_labelled(mask, marked)
    image = intensity.for_display(np.asarray(case.image[..., channel : channel + 1]))[..., 0]
    return case_sheet.of_case(title, image, truth, predicted)

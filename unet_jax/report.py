"""Counts → rows → metrics.json, cases.csv and the table on the screen."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64

from unet_jax import metrics
from unet_jax.data.case import Case
from unet_jax.files import write_json

Row = dict[str, str | int | float | None]


def case_rows(
    cases: Sequence[Case], index: Int32[np.ndarray, "n 2"], counts: Int64[np.ndarray, "n 3"]
) -> list[Row]:
    """One row a case, worst Dice first.

    Args:
        cases: of the data set.
        index: (position in `cases`, slice) of each scored slice.
        counts: its (true positive, false positive, false negative) pixels.
    """
    rows = []
    for position in np.unique(index[:, 0]).tolist():
        of_slices = counts[index[:, 0] == position]
        total = of_slices.sum(0)
        true_positive, false_positive, false_negative = total.tolist()
        rows.append(
            {
                "case": cases[position].name,
                "patient": cases[position].patient,
                "slices": len(of_slices),
                "dice": metrics.dice(total),
                "iou": metrics.iou(total),
                "precision": metrics.precision(total),
                "recall": metrics.recall(total),
                "true_positive": true_positive,
                "false_positive": false_positive,
                "false_negative": false_negative,
            }
        )
    return sorted(rows, key=lambda row: (row["dice"], row["case"]))


def summarise(rows: list[Row], counts: Int64[np.ndarray, "n 3"]) -> dict:
    """The headline scores, of patients (all of a patient's scans as one volume), of slices and of all pixels."""
    patients: dict[str, np.ndarray] = {}
    for row in rows:
        of_case = np.array([row["true_positive"], row["false_positive"], row["false_negative"]], np.int64)
        patients[row["patient"]] = patients.get(row["patient"], 0) + of_case
    total = counts.sum(0)
    return {
        "cases": len(rows),
        "patients": len(patients),
        "patients_empty_in_both": sum(metrics.is_empty(of) for of in patients.values()),
        "slices": len(counts),
        "slices_empty_in_both": sum(metrics.is_empty(of) for of in counts),
        "dice_per_patient": metrics.distribution([metrics.dice(of) for of in patients.values()]),
        "iou_per_patient": metrics.distribution([metrics.iou(of) for of in patients.values()]),
        "dice_per_slice": {"mean": float(np.mean([metrics.dice(of) for of in counts]))},
        "dice_global": metrics.dice(total),
        "precision": metrics.precision(total),
        "recall": metrics.recall(total),
    }


def best_median_worst(rows: list[Row]) -> list[tuple[str, Row]]:
    """The rows that a picture should show, each with what it is; fewer where there are under three cases."""
    chosen = {"best": rows[-1], "median": rows[len(rows) // 2], "worst": rows[0]}
    seen: set[str] = set()
    return [
        (title, row) for title, row in chosen.items() if not (row["case"] in seen or seen.add(row["case"]))
    ]


def write(folder: Path, summary: dict, rows: list[Row]) -> None:
    """Writes metrics.json and cases.csv into `folder`; an undefined score is null, or an empty cell."""
    write_json(folder / "metrics.json", summary)
    with open(folder / "cases.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def table(summary: dict) -> str:
    """The headline scores as text, a line each."""

    def of_patients(scores: dict) -> str:
        low, high = scores["ci95"]
        return (
            f"{scores['mean']:.3f} mean (95 % {low:.3f} to {high:.3f}), {scores['median']:.3f} median, "
            f"{scores['std']:.3f} std"
        )

    def share(value: float | None) -> str:
        return "undefined" if value is None else f"{value:.3f}"

    lines = [
        ("split", f"{summary['split']} ({summary['split_by']})"),
        ("cases", f"{summary['cases']} of {summary['patients']} patients, {summary['slices']} slices"),
        ("Dice per patient", of_patients(summary["dice_per_patient"])),
        ("IoU per patient", of_patients(summary["iou_per_patient"])),
        (
            "Dice per slice",
            f"{summary['dice_per_slice']['mean']:.3f} mean; {summary['slices_empty_in_both']} slices are empty "
            "in both and count as 1",
        ),
        ("Dice of all pixels", share(summary["dice_global"])),
        ("precision, recall", f"{share(summary['precision'])}, {share(summary['recall'])}"),
        ("seconds per case", f"{summary['seconds_per_case']:.2f}"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in lines)

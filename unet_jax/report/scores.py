"""Rows → metrics.json, cases.csv and the table on the screen."""

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64

from unet_jax import metrics
from unet_jax.data.case import Case
from unet_jax.files import write_json, write_text
from unet_jax.metrics import cases as scoring
from unet_jax.metrics.cases import Row

COUNTS = ("true_positive", "false_positive", "false_negative")
# what post-processing can be seen to change
CHANGED = ("dice_per_patient", "dice_global", "precision", "recall", "hd95_per_patient", "lesions")


def case_rows(
    cases: Sequence[Case],
    index: Int32[np.ndarray, "n 2"],
    counts: Int64[np.ndarray, "n 3"] | Int64[np.ndarray, "n k 3"],
    classes: Sequence[str] = (),
) -> list[Row]:
    """One row a case, worst Dice first, with the scores that slices suffice for; `scoring` has the others.

    Args:
        cases: of the data set.
        index: (position in `cases`, slice) of each scored slice.
        counts: its (true positive, false positive, false negative) pixels; with several classes, those of each.
        classes: the names of several; empty for one.
    """

    def row(position: int) -> Row:
        case, of_case = cases[position], counts[index[:, 0] == position]
        if not classes:
            return scoring.overlap_row(case, of_case)
        rows = (scoring.overlap_row(case, of_case[:, number]) for number in range(len(classes)))
        return scoring.over_classes(dict(zip(classes, rows, strict=True)))

    return scoring.worst_first(row(position) for position in np.unique(index[:, 0]).tolist())


def summarise(rows: list[Row], counts: Int64[np.ndarray, "n 3"] | Int64[np.ndarray, "n k 3"]) -> dict:
    """The headline scores of patients, of slices and of all pixels.

    Several classes have each their own, under `classes`; what is over them is the mean, a patient's and a slice's
    first; lesions are summed, and what is empty in both is so in all classes.

    Overlap is counted over all of a patient's scans as one volume. Where the rows have them, distances and
    volumes follow, a patient's being the mean over the scans where they are defined, and lesions.

    Args:
        rows: of `case_rows`, or of `scoring.score_cases`.
        counts: (true positive, false positive, false negative) pixels of each slice; of several classes, of each.
    """
    if scoring.CLASSES not in rows[0]:
        return _summary(rows, counts)
    by_class = _rows_by_class(rows)
    each = {name: _summary(of_class, counts[:, n]) for n, (name, of_class) in enumerate(by_class.items())}
    summary = _summary(rows, counts.sum(1)) | {
        "dice_per_patient": metrics.distribution(list(dice_by_patient(rows).values())),
        "iou_per_patient": metrics.distribution(list(_score_by_patient(rows, metrics.iou).values())),
        "dice_per_slice": {"mean": float(np.mean([of["dice_per_slice"]["mean"] for of in each.values()]))},
    }
    for name in ("dice_global", "precision", "recall", "specificity"):
        summary[name] = metrics.mean_of_defined(of[name] for of in each.values())
    return summary | {"classes": each}


def _rows_by_class(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        for name, of_class in row[scoring.CLASSES].items():
            found.setdefault(name, []).append(of_class)
    return found


def _summary(rows: list[Row], counts: Int64[np.ndarray, "n 3"]) -> dict:
    patients = _by_patient(rows)
    pooled = [_total(of_patient) for of_patient in patients.values()]
    total = counts.sum(0)
    summary = {
        "cases": len(rows),
        "patients": len(patients),
        "patients_empty_in_both": sum(metrics.is_empty(of) for of in pooled),
        "slices": len(counts),
        "slices_empty_in_both": sum(metrics.is_empty(of) for of in counts),
        "dice_per_patient": metrics.distribution([metrics.dice(of) for of in pooled]),
        "iou_per_patient": metrics.distribution([metrics.iou(of) for of in pooled]),
        "dice_per_slice": {"mean": float(np.mean([metrics.dice(of) for of in counts]))},
        "dice_global": metrics.dice(total),
        "precision": metrics.precision(total),
        "recall": metrics.recall(total),
        "specificity": metrics.specificity(total, sum(row["voxels"] for row in rows)),
    }
    return summary | (_of_whole_cases(patients) if "hd95" in rows[0] else {})


def dice_by_patient(rows: Sequence[Row]) -> dict[str, float]:
    """Dice over all of each patient's scans, as `summarise` takes it: of several classes, the mean."""
    return _score_by_patient(rows, metrics.dice)


def _score_by_patient(rows: Sequence[Row], score: Callable[[Int64[np.ndarray, "3"]], float]) -> dict[str, float]:
    if scoring.CLASSES in rows[0]:
        each = [_score_by_patient(of_class, score) for of_class in _rows_by_class(rows).values()]
        return {patient: float(np.mean([scores[patient] for scores in each])) for patient in each[0]}
    return {patient: score(_total(of_patient)) for patient, of_patient in _by_patient(rows).items()}


def _by_patient(rows: Iterable[Row]) -> dict[str, list[Row]]:
    patients: dict[str, list[Row]] = {}
    for row in rows:
        patients.setdefault(row["patient"], []).append(row)
    return patients


def _total(rows: Iterable[Row]) -> Int64[np.ndarray, "3"]:
    return np.array([[row[name] for name in COUNTS] for row in rows], np.int64).sum(0)


def _of_whole_cases(patients: Mapping[str, list[Row]]) -> dict:
    """Surface distances, volumes and lesions; each distribution with its unit and the patients it is over."""
    rows = [row for of_patient in patients.values() for row in of_patient]
    units = {
        "hd95": {"unit": rows[0]["distance_unit"]},
        "average_surface_distance": {"unit": rows[0]["distance_unit"]},
        "surface_dice": {},
        "volume_difference": {"unit": rows[0]["volume_unit"]},
        "relative_volume_difference": {},
    }
    return {
        f"{name}_per_patient": _of_defined([[row[name] for row in of] for of in patients.values()]) | unit
        for name, unit in units.items()
    } | {"lesions": _of_lesions(rows)}


def _of_defined(patients: Iterable[list[float | None]]) -> dict:
    """The distribution over the patients with a defined value, and how many they are."""
    defined = [[value for value in of_patient if value is not None] for of_patient in patients]
    means = [float(np.mean(values)) for values in defined if values]
    return {"patients": len(means), **metrics.distribution(means)}


def _of_lesions(rows: list[Row]) -> dict[str, int | float | None] | None:
    """Over the cases of which every slice was scored; None if there is none."""
    found = [[row[name] for name in scoring.LESIONS] for row in rows if row[scoring.LESIONS[0]] is not None]
    if not found:
        return None
    total = np.array(found, np.int64).sum(0)
    return {
        **dict(zip(COUNTS, total.tolist(), strict=True)),
        "precision": metrics.precision(total),
        "recall": metrics.recall(total),
        "f1": metrics.dice(total),
    }


def effects(summaries: Mapping[str, dict]) -> list[dict]:
    """What each step of post-processing changed: its name, and scores before and after it.

    Args:
        summaries: of `summarise`, by step and in their order, the first without any.
    """
    names = list(summaries)
    return [
        {
            "step": step,
            "before": {key: summaries[previous][key] for key in CHANGED},
            "after": {key: summaries[step][key] for key in CHANGED},
        }
        for previous, step in itertools.pairwise(names)
    ]


def best_median_worst(rows: list[Row]) -> list[tuple[str, Row]]:
    """The rows that a picture should show, each with what it is; fewer where there are under three cases."""
    chosen = {"best": rows[-1], "median": rows[len(rows) // 2], "worst": rows[0]}
    seen: set[str] = set()
    return [(title, row) for title, row in chosen.items() if not (row["case"] in seen or seen.add(row["case"]))]


def write(folder: Path, summary: dict, rows: list[Row]) -> None:
    """Writes metrics.json and cases.csv into `folder`; an undefined score is null, or an empty cell.

    With several classes, a case has a line for each of them.
    """
    write_json(folder / "metrics.json", summary)
    write_rows(folder / "cases.csv", rows)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Writes rows as a CSV; an undefined score is an empty cell."""
    table = io.StringIO()
    lines = [line for row in rows for line in _lines_of_case(row)]
    writer = csv.DictWriter(table, fieldnames=list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, table.getvalue())


def _lines_of_case(row: Row) -> list[Row]:
    if scoring.CLASSES not in row:
        return [row]
    names = ("case", "patient")
    return [
        {name: row[name] for name in names} | {"class": name} | of_class
        for name, of_class in row[scoring.CLASSES].items()
    ]


def table(summary: dict) -> str:
    """The headline scores as text, a line each."""
    lines = [
        ("split", f"{summary['split']} ({summary['split_by']})"),
        ("cases", f"{summary['cases']} of {summary['patients']} patients, {summary['slices']} slices"),
        ("Dice per patient", spread(summary["dice_per_patient"])),
        *((f"  {name}", spread(of["dice_per_patient"])) for name, of in summary.get("classes", {}).items()),
        ("IoU per patient", spread(summary["iou_per_patient"])),
        (
            "Dice per slice",
            f"{summary['dice_per_slice']['mean']:.3f} mean; {summary['slices_empty_in_both']} slices are "
            "empty in both and count as 1",
        ),
        ("Dice of all pixels", _share(summary["dice_global"])),
        ("precision, recall", f"{_share(summary['precision'])}, {_share(summary['recall'])}"),
        *(_lines_of_whole_cases(summary) if "hd95_per_patient" in summary else []),
        ("seconds per case", f"{summary['seconds_per_case']:.2f}"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in lines)


def _lines_of_whole_cases(summary: dict) -> list[tuple[str, str]]:
    hd95, lesions = summary["hd95_per_patient"], summary["lesions"]
    defined, patients = hd95["patients"], summary["patients"]
    missing = f"; undefined for {patients - defined} of {patients}" if 0 < defined < patients else ""
    lines = [
        ("HD95 per patient", spread(hd95) + missing),
        (
            f"surface Dice, {summary['surface_tolerance']:g} {hd95['unit']}",
            spread(summary["surface_dice_per_patient"]),
        ),
    ]
    if lesions:
        found, false, missed = (lesions[name] for name in COUNTS)
        lines.append(("lesions", f"{found} found, {missed} missed, {false} false, F1 {_share(lesions['f1'])}"))
    for effect in summary["postprocess"]:
        before, after = effect["before"], effect["after"]
        lines.append(
            (
                f"by {effect['step']}",
                f"Dice per patient {before['dice_per_patient']['mean']:.3f} → "
                f"{after['dice_per_patient']['mean']:.3f}, false lesions "
                f"{before['lesions']['false_positive']} → {after['lesions']['false_positive']}",
            )
        )
    return lines


def spread(scores: dict) -> str:
    """A distribution of `summarise` in words."""
    if scores["mean"] is None:
        return "undefined"
    low, high = scores["ci95"]
    unit = f" {scores['unit']}" if "unit" in scores else ""
    return (
        f"{scores['mean']:.3f}{unit} mean (95 % {low:.3f} to {high:.3f}), {scores['median']:.3f} median, "
        f"{scores['std']:.3f} std"
    )


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"

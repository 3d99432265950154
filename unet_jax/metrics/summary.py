"""Rows of cases → the scores of a data set: of patients, of slices and of all pixels."""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Int32, Int64

from unet_jax.data.case import Case
from unet_jax.metrics import overlap, statistics
from unet_jax.metrics.cases import (
    CLASSES,
    CLDICE,
    LESIONS,
    OBSERVERS,
    PIXELS,
    Row,
    over_classes,
    overlap_row,
    worst_first,
)

# what post-processing can be seen to change
CHANGED = ("dice_per_patient", "dice_global", "precision", "recall", "hd95_per_patient", "lesions")


def case_rows(
    cases: Sequence[Case],
    index: Int32[np.ndarray, "n 2"],
    counts: Int64[np.ndarray, "n 3"] | Int64[np.ndarray, "n k 3"],
    classes: Collection[str] = (),
) -> list[Row]:
    """One row a case, worst Dice first, with the scores that slices suffice for; `cases.score_cases` has the others.

    Args:
        cases: of the data set.
        index: (position in `cases`, slice) of each scored slice, in any order.
        counts: its (true positive, false positive, false negative) pixels; with several classes, those of each.
        classes: the names of several; empty for one.
    """

    def row(position: int, of_case: np.ndarray) -> Row:
        case = cases[position]
        if not classes:
            return overlap_row(case, of_case)
        rows = (overlap_row(case, of_case[:, number]) for number in range(len(classes)))
        return over_classes(dict(zip(classes, rows, strict=True)))

    by_case = np.argsort(index[:, 0], kind="stable")
    positions, starts = np.unique(index[by_case, 0], return_index=True)
    return worst_first(map(row, positions.tolist(), np.split(counts[by_case], starts[1:])))


def summarise(rows: list[Row], counts: Int64[np.ndarray, "n 3"] | Int64[np.ndarray, "n k 3"]) -> dict:
    """The headline scores of patients, of slices and of all pixels.

    Patients whose masks are empty in both are counted and stand in no mean; by slice, they count as 1, the tutorial's
    convention. Several classes have each their own scores, under `classes`; what is over them is the mean, a patient's
    and a slice's first; lesions are summed, and what is empty in both is so in all classes.

    Overlap is counted over all of a patient's scans as one volume. Where the rows have them, distances and
    volumes follow, a patient's being the mean over the scans where they are defined, and lesions; clDice too.

    Args:
        rows: of `case_rows`, or of `cases.score_cases`.
        counts: (true positive, false positive, false negative) pixels of each slice; of several classes, of each.
    """
    if CLASSES not in rows[0]:
        return _summary(rows, counts)
    by_class = _rows_by_class(rows)
    each = {name: _summary(of_class, counts[:, n]) for n, (name, of_class) in enumerate(by_class.items())}
    summary = _summary(rows, counts.sum(1)) | {
        "dice_per_patient": statistics.distribution(dice_by_patient(rows).values()),
        "iou_per_patient": statistics.distribution(_score_by_patient(rows, overlap.iou).values()),
        "dice_per_slice": {"mean": float(np.mean([of["dice_per_slice"]["mean"] for of in each.values()]))},
    }
    for name in ("dice_global", "precision", "recall", "specificity"):
        summary[name] = statistics.mean_of_defined(of[name] for of in each.values())
    return summary | {"classes": each}


def _rows_by_class(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        for name, of_class in row[CLASSES].items():
            found.setdefault(name, []).append(of_class)
    return found


def _summary(rows: list[Row], counts: Int64[np.ndarray, "n 3"]) -> dict:
    patients = _by_patient(rows)
    pooled = [_total(of_patient) for of_patient in patients.values()]
    total = counts.sum(0)
    summary = {
        "cases": len(rows),
        "patients": len(patients),
        "patients_empty_in_both": sum(overlap.is_empty(of) for of in pooled),
        "slices": len(counts),
        "slices_empty_in_both": sum(overlap.is_empty(of) for of in counts),
        "dice_per_patient": statistics.distribution(map(overlap.dice, pooled)),
        "iou_per_patient": statistics.distribution(map(overlap.iou, pooled)),
        "dice_per_slice": {"mean": float(np.mean([overlap.dice(of, empty=1.0) for of in counts]))},
        "dice_global": overlap.dice(total),
        "precision": overlap.precision(total),
        "recall": overlap.recall(total),
        "specificity": overlap.specificity(total, sum(row["voxels"] for row in rows)),
    }
    return summary | (_of_whole_cases(patients) if "hd95" in rows[0] else {})


def dice_by_patient(rows: Sequence[Row]) -> dict[str, float | None]:
    """Dice over all of each patient's scans, as `summarise` takes it: of several classes, the mean of those defined."""
    return _score_by_patient(rows, overlap.dice)


def _score_by_patient(
    rows: Sequence[Row], score: Callable[[Int64[np.ndarray, "3"]], float | None]
) -> dict[str, float | None]:
    if CLASSES in rows[0]:
        each = [_score_by_patient(of_class, score) for of_class in _rows_by_class(rows).values()]
        return {patient: statistics.mean_of_defined(scores[patient] for scores in each) for patient in each[0]}
    return {patient: score(_total(of_patient)) for patient, of_patient in _by_patient(rows).items()}


def _by_patient(rows: Iterable[Row]) -> dict[str, list[Row]]:
    patients: dict[str, list[Row]] = {}
    for row in rows:
        patients.setdefault(row["patient"], []).append(row)
    return patients


def _total(rows: Iterable[Row]) -> Int64[np.ndarray, "3"]:
    return np.array([[row[name] for name in PIXELS] for row in rows], np.int64).sum(0)


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
    units |= {name: {} for name in (CLDICE, *OBSERVERS) if name in rows[0]}
    return {
        f"{name}_per_patient": _of_defined([[row[name] for row in of] for of in patients.values()]) | unit
        for name, unit in units.items()
    } | {"lesions": _of_lesions(rows)}


def _of_defined(patients: Iterable[list[float | None]]) -> dict:
    """The distribution over the patients with a defined value, and how many they are."""
    defined = [[value for value in of_patient if value is not None] for of_patient in patients]
    means = [float(np.mean(values)) for values in defined if values]
    return {"patients": len(means), **statistics.distribution(means)}


def _of_lesions(rows: list[Row]) -> dict[str, int | float | None] | None:
    """Over the cases of which every slice was scored; None if there is none."""
    found = [[row[name] for name in LESIONS] for row in rows if row[LESIONS[0]] is not None]
    if not found:
        return None
    total = np.array(found, np.int64).sum(0)
    return {
        **dict(zip(PIXELS, total.tolist(), strict=True)),
        "precision": overlap.precision(total),
        "recall": overlap.recall(total),
        "f1": overlap.dice(total),
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
    """The rows that a picture should show, each with what it is; fewer where there are under three cases.

    Cases whose Dice is undefined are shown only where all are.
    """
    rows = [row for row in rows if row["dice"] is not None] or rows
    chosen = {"best": rows[-1], "median": rows[len(rows) // 2], "worst": rows[0]}
    seen: set[str] = set()
    return [(title, row) for title, row in chosen.items() if not (row["case"] in seen or seen.add(row["case"]))]

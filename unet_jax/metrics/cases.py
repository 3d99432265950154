"""Predicted slices → whole cases → a row of scores for each, with one case in memory at a time."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from unet_jax.data import labels, regions
from unet_jax.data.case import Case
from unet_jax.data.regions import Classes
from unet_jax.metrics import centre_lines, lesions, overlap, statistics, surface

# A case's; with several classes, `CLASSES` holds the row of each by its name, and all else is taken over them.
Row = dict[str, "str | int | float | dict[str, Row] | None"]
CLASSES = "classes"
# the position of a case, the numbers of its slices, their masks; axes have no names, as cases differ in size
Predicted = tuple[int, Int32[np.ndarray, " _"], UInt8[np.ndarray, "_ _ _"]]
# the name of each stage of post-processing, and a mask then
Staged = Iterable[tuple[str, UInt8[np.ndarray, "s h w"]]]
Stages = Callable[[UInt8[np.ndarray, "s h w"]], Staged]

OVERLAP = ("dice", "iou", "precision", "recall", "specificity")
PIXELS = ("true_positive", "false_positive", "false_negative")
DISTANCES = ("hd95", "average_surface_distance", "surface_dice", "volume_difference", "relative_volume_difference")
LESIONS = ("lesions_true_positive", "lesions_false_positive", "lesions_false_negative")
# what only a whole case has; None where slices of it are missing
WHOLE_CASE = (*DISTANCES, *LESIONS)
# where config.eval.cldice asks for it; None for cases of several slices
CLDICE = "cldice"
# where config.eval.second_masks names another observer's: the Dice of the predicted mask, and of the true one, with it
OBSERVERS = WITH_SECOND, BETWEEN_OBSERVERS = "dice_with_second_observer", "dice_between_observers"


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the cases of a data set scored.

    Attributes:
        rows: one a case, worst Dice first.
        counts: (true positive, false positive, false negative) pixels of each slice; of several classes, of each of
            them.
    """

    rows: list[Row]
    counts: Int64[np.ndarray, "n 3"] | Int64[np.ndarray, "n k 3"]


def score_cases(
    cases: Sequence[Case],
    predicted: Iterable[Predicted],
    *,
    tolerance: float,
    stages: Stages,
    classes: Classes = (),
    cldice: bool = False,
) -> dict[str, Scores]:
    """Scores the masks as they were predicted, and again after each step of post-processing.

    Several classes are scored one by one, each as if it were the only one. Pixels that the true mask ignores count
    nowhere: after each step of post-processing, both masks are background there.

    Distances and volumes are in mm and ml if every case has its spacing, else in pixels and voxels for all:
    scores in different units have no mean.

    Args:
        cases: of the data set, all with masks.
        predicted: each case once, as `inference.segment_cases` gives it.
        tolerance: of the surface Dice, in mm or pixels.
        stages: the mask as predicted and after each step of post-processing, each with a name: `postprocess.stages` of
            the mask of a class, or `postprocess.stages_of_regions` of that of all classes, where they overlap. Steps
            need whole cases.
        classes: several, of which the masks hold the numbers; empty for one, of 0 and 1.
        cldice: whether rows have this as well.

    Returns:
        The scores at each stage, from "as_predicted" to those of the final masks.
    """
    in_mm = all(case.spacing is not None for case in cases)
    units = {"distance_unit": "mm" if in_mm else "pixels", "volume_unit": "ml" if in_mm else "voxels"}
    rows: dict[str, list[Row]] = {}
    counts: dict[str, list[np.ndarray]] = {}
    for position, numbers, mask in predicted:
        case, truth = cases[position], np.asarray(cases[position].mask)[numbers]
        score = functools.partial(
            _score_stages,
            case,
            whole=np.array_equal(numbers, np.arange(len(case.mask))),
            spacing=case.spacing if in_mm else None,
            units=units,
            tolerance=tolerance,
            cldice=cldice,
        )
        each = [score(*of_class) for of_class in _staged(mask, truth, classes, stages)]
        if classes:
            scored = {stage: _together(tuple(classes), [one[stage] for one in each]) for stage in each[0]}
        else:
            [scored] = each
        for stage, (row, found) in scored.items():
            rows.setdefault(stage, []).append(row)
            counts.setdefault(stage, []).append(found)
    return {stage: Scores(worst_first(rows[stage]), np.concatenate(counts[stage])) for stage in rows}


def count_slices(
    predicted: Iterable[Predicted], cases: Sequence[Case], classes: Classes
) -> tuple[Int32[np.ndarray, "n 2"], Int64[np.ndarray, "n 3"] | Int64[np.ndarray, "n k 3"]]:
    """(position in cases, slice) and (true positive, false positive, false negative) pixels of each slice.

    Those of each class, if there are several.
    """
    index, counts, members = [], [], regions.members(classes)
    for position, slices, mask in predicted:
        index += [(position, number) for number in slices.tolist()]
        marked = np.asarray(cases[position].mask)[slices]
        mask, truth = labels.where_labelled(mask, marked), labels.without_ignored(marked)
        counts.append(overlap.count_classes(mask, truth, members) if classes else overlap.count(mask, truth))
    if not counts:
        return np.zeros((0, 2), np.int32), np.zeros((0, len(members), 3) if classes else (0, 3), np.int64)
    return np.array(index, np.int32), np.concatenate(counts)


def _staged(
    mask: UInt8[np.ndarray, "s h w"], marked: UInt8[np.ndarray, "s h w"], classes: Classes, stages: Stages
) -> Iterator[tuple[Staged, UInt8[np.ndarray, "s r c"]]]:
    """The stages of each class, and its true mask, of 0 and 1; the latter may have pixels that are IGNORED."""
    if not classes:
        predicted, truth = _cropped(mask, marked)
        yield stages(predicted), truth
    elif regions.overlap(classes):
        names, masks = zip(*stages(mask), strict=True)
        for its in regions.members(classes):
            *found, truth = _cropped(*(_of_class(one, its) for one in (*masks, marked)))
            yield zip(names, found, strict=True), truth
    else:
        for its in regions.members(classes):
            predicted, truth = _cropped(_of_class(mask, its), _of_class(marked, its))
            yield stages(predicted), truth


def _score_stages(
    case: Case,
    staged: Staged,
    marked: UInt8[np.ndarray, "s r c"],
    *,
    whole: bool,
    spacing: surface.Spacing | None,
    units: Mapping[str, str],
    tolerance: float,
    cldice: bool,
) -> dict[str, tuple[Row, Int64[np.ndarray, "s 3"]]]:
    """The row of a case and the counts of its slices, by stage of post-processing: see `_staged`."""
    truth, ignored = labels.without_ignored(marked), int(np.count_nonzero(marked == labels.IGNORED))
    found_at, scored = {}, None
    for stage, found_mask in staged:
        final = labels.where_labelled(found_mask, marked)
        # most steps change nothing in most cases
        if scored is None or not np.array_equal(final, scored):
            scored, found = final, overlap.count(final, truth)
            scores = whole_case_scores(final, truth, spacing, tolerance) if whole else dict.fromkeys(WHOLE_CASE)
            if cldice:
                scores[CLDICE] = centre_lines.cldice(final[0], truth[0]) if len(case.mask) == 1 else None
        found_at[stage] = (overlap_row(case, found, ignored) | scores | units, found)
    return found_at


def _of_class(mask: UInt8[np.ndarray, "s h w"], numbers: Sequence[int]) -> UInt8[np.ndarray, "s h w"]:
    of_class = regions.marked(mask, numbers).astype(np.uint8)
    return np.where(mask == labels.IGNORED, np.uint8(labels.IGNORED), of_class)


def _together(
    classes: Sequence[str], scored: Sequence[tuple[Row, Int64[np.ndarray, "s 3"]]]
) -> tuple[Row, Int64[np.ndarray, "s k 3"]]:
    rows, counts = zip(*scored, strict=True)
    return over_classes(dict(zip(classes, rows, strict=True))), np.stack(counts, axis=1)


def over_classes(rows: Mapping[str, Row]) -> Row:
    """A case's row from those of its classes: pixels and lesions are summed, scores are the mean where defined."""
    several, first = list(rows.values()), next(iter(rows.values()))
    row = dict(first)
    for name in (*OVERLAP, *DISTANCES, CLDICE):
        if name in row:
            row[name] = statistics.mean_of_defined(one[name] for one in several)
    for name in (*PIXELS, *LESIONS):
        if name in row:
            row[name] = None if first[name] is None else sum(one[name] for one in several)
    return row | {CLASSES: dict(rows)}


def overlap_row(case: Case, counts: Int64[np.ndarray, "s 3"], ignored: int = 0) -> Row:
    """A case's scores from the (true positive, false positive, false negative) pixels of its slices.

    So many more of their pixels are `ignored`.
    """
    total = counts.sum(0)
    true_positive, false_positive, false_negative = total.tolist()
    voxels = len(counts) * math.prod(case.image.shape[1:3]) - ignored
    return {
        "case": case.name,
        "patient": case.patient,
        "slices": len(counts),
        "dice": overlap.dice(total),
        "iou": overlap.iou(total),
        "precision": overlap.precision(total),
        "recall": overlap.recall(total),
        "specificity": overlap.specificity(total, voxels),
        "voxels": voxels,
        "true_positive": true_positive,
        "false_positive": false_positive,
        "false_negative": false_negative,
    }


def whole_case_scores(
    predicted: UInt8[np.ndarray, "d h w"],
    truth: UInt8[np.ndarray, "d h w"],
    spacing: surface.Spacing | None,
    tolerance: float,
) -> Row:
    """The scores named in WHOLE_CASE.

    Args:
        predicted: 0 and 1; all slices of the case.
        truth: 0 and 1; all slices of the case.
        spacing: mm between slices, rows and columns; None counts pixels and voxels.
        tolerance: of the surface Dice, in the same unit.

    Returns:
        `surface.scores`; the predicted volume less the true one, in ml or voxels, and as a share of the true
        one (None without tumour); `lesions.count`.
    """
    true_voxels = int(truth.sum(dtype=np.int64))
    difference = int(predicted.sum(dtype=np.int64)) - true_voxels
    voxel = 1.0 if spacing is None else math.prod(spacing) / 1000
    return {
        **surface.scores(predicted, truth, spacing, tolerance),
        "volume_difference": difference * voxel,
        "relative_volume_difference": difference / true_voxels if true_voxels else None,
        **dict(zip(LESIONS, lesions.count(predicted, truth).tolist(), strict=True)),
    }


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """Rows by ascending Dice, then by name; those where it is undefined come last."""
    return sorted(rows, key=lambda row: (row["dice"] is None, row["dice"] or 0.0, row["case"]))


def _cropped(*masks: UInt8[np.ndarray, "s h w"]) -> list[UInt8[np.ndarray, "s r c"]]:
    """Masks without the rows and columns that are empty in all of them: no score depends on those."""
    occupied = np.logical_or.reduce([mask.any(0) for mask in masks])
    box = []
    for axis in (1, 0):
        lines = np.flatnonzero(occupied.any(axis))
        box.append(slice(lines[0], lines[-1] + 1) if len(lines) else slice(1))
    return [mask[:, *box] for mask in masks]

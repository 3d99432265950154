"""The patients of all folds as one group: their scores, and how they compare with those of another recipe."""

from collections.abc import Mapping, Sequence

import numpy as np

from unet_jax.crossval.folds import Fold
from unet_jax.errors import InputError
from unet_jax.metrics import statistics
from unet_jax.metrics.cases import PIXELS, Row, worst_first
from unet_jax.metrics.summary import dice_by_patient, summarise
from unet_jax.report.scores import share, spread
from unet_jax.wording import count

# An error names so many patients and counts the others.
LISTED = 5


def pool(folds: Sequence[Fold]) -> tuple[dict, list[Row]]:
    """What crossval.json and cases.csv hold: scores over the patients of all folds, and of each fold.

    Minutes are those of the epochs, validation and compilation included; what a killed process had not saved is not
    in them.

    Args:
        folds: of one cross-validation, at least one.

    Returns:
        the scores, and the rows of all cases with their fold, worst Dice first.
    """
    total = folds[0].config["data.folds"]
    rows = worst_first(row | {"fold": fold.number} for fold in folds for row in fold.rows)
    counts = np.array([[row[name] for name in PIXELS] for row in rows], np.int64)
    # Of slices there are no rows: the folds' own means are weighted by their number.
    slices = [fold.metrics["slices"] for fold in folds]
    per_slice = [fold.metrics["dice_per_slice"]["mean"] for fold in folds]
    scores = summarise(rows, counts) | {
        "slices": sum(slices),
        "slices_empty_in_both": sum(fold.metrics["slices_empty_in_both"] for fold in folds),
        "dice_per_slice": {"mean": float(np.average(per_slice, weights=slices))},
    }
    per_fold = [_of_fold(fold) for fold in folds]
    results = {
        "folds": total,
        "folds_scored": [fold.number for fold in folds],
        **scores,
        "minutes_per_fold": float(np.mean([fold["minutes"] for fold in per_fold])),
        **{key: folds[0].metrics[key] for key in ("tta", "tiles", "surface_tolerance")},
        "per_fold": per_fold,
        "dice_by_patient": dict(sorted(dice_by_patient(rows).items())),
    }
    return results, rows


def _of_fold(fold: Fold) -> dict:
    found = fold.metrics
    return {
        "fold": fold.number,
        "patients": found["patients"],
        "dice_per_patient": found["dice_per_patient"],
        "dice_global": found["dice_global"],
        "threshold": found["threshold"],
        "minimum_voxels": found.get("minimum_voxels"),
        "checkpoint_step": found["checkpoint_step"],
        "epochs": len(fold.epochs),
        "minutes": sum(record["seconds"] for record in fold.epochs) / 60,
    }


def compare(ours: Mapping[str, float | None], theirs: Mapping[str, float | None]) -> dict:
    """Two recipes on the same patients, by the differences of their Dice, ours less theirs.

    Args:
        ours: Dice by patient.
        theirs: Dice by patient.

    Returns:
        what `statistics.paired_comparison` does.

    Raises:
        InputError: the patients are not the same, or none has a Dice in both.
    """
    if ours.keys() != theirs.keys():
        alone = sorted(ours.keys() ^ theirs.keys())
        more = f" and {len(alone) - LISTED} more" if len(alone) > LISTED else ""
        raise InputError(
            f"--against has other patients: {len(ours)} here, {len(theirs)} there, and only in one of them "
            f"{', '.join(alone[:LISTED])}{more}: compare cross-validations of the same data with the same folds done."
        )
    found = statistics.paired_comparison(ours, theirs)
    if not found["patients"]:
        raise InputError("--against: no patient's Dice is defined in both: nothing is marked, and nothing was found.")
    return found


def table(results: Mapping) -> str:
    """The results for the screen."""
    scored = results["folds_scored"]
    lines = [
        ("patients", f"{results['patients']}, in {len(scored)} of {results['folds']} folds"),
        ("Dice per patient", spread(results["dice_per_patient"])),
        ("IoU per patient", spread(results["iou_per_patient"])),
        ("Dice of all pixels", share(results["dice_global"])),
        *((f"fold {fold['fold']}", _in_words(fold)) for fold in results["per_fold"]),
    ]
    if "chosen" in results:
        lines.append(("chosen for new patients", _chosen(results["chosen"])))
    if "against" in results:
        lines.append((f"against {results['against']['workdir']}", difference(results["against"])))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in lines)


def _in_words(fold: Mapping) -> str:
    dice = fold["dice_per_patient"]
    return (
        f"{share(dice['mean'])} mean, {share(dice['median'])} median, {count(fold['patients'], 'patient')}; "
        f"{count(fold['epochs'], 'epoch')} in {fold['minutes']:.1f} min"
    )


def _chosen(found: Mapping) -> str:
    return (
        f"threshold {found['threshold']}, parts of {count(found['minimum_voxels'], 'voxel')} on, by all folds: "
        f"{share(found['dice'])} on them; above, each fold has what the others chose"
    )


def difference(found: Mapping) -> str:
    """A comparison in words."""
    low, high = found["ci95"]
    p_value = "none differs" if found["p_value"] is None else f"Wilcoxon p = {found['p_value']:.2g}"
    return (
        f"{found['mean_difference']:+.3f} mean Dice (95 % {low:+.3f} to {high:+.3f}); "
        f"{count(found['better'], 'patient')} better, {found['worse']} worse, {found['equal']} equal; {p_value}"
    )

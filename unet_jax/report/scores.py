"""Scores as text: metrics.json, cases.csv and the table on the screen."""

import csv
import io
from pathlib import Path

from unet_jax.files import write_json, write_text
from unet_jax.metrics.cases import CLASSES, PIXELS, Row
from unet_jax.wording import count

# Below this share of right pixels, lesions are found by covering everything.
MOSTLY_WRONG = 0.5


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
    if CLASSES not in row:
        return [row]
    names = ("case", "patient")
    return [{name: row[name] for name in names} | {"class": name} | of_class for name, of_class in row[CLASSES].items()]


def table(summary: dict) -> str:
    """The headline scores as text, a line each; whose they are is called what the data call it."""
    unit = summary.get("unit", "patient")
    lines = [
        ("split", f"{summary['split']} ({summary['split_by']})"),
        ("cases", f"{summary['cases']:,} of {count(summary['patients'], unit)}, {count(summary['slices'], 'slice')}"),
        (f"Dice per {unit}", spread(summary["dice_per_patient"]) + _left_out(summary)),
        *((f"  {name}", spread(of["dice_per_patient"])) for name, of in summary.get("classes", {}).items()),
        (f"IoU per {unit}", spread(summary["iou_per_patient"])),
        (
            "Dice per slice",
            f"{summary['dice_per_slice']['mean']:.3f} mean; {count(summary['slices_empty_in_both'], 'slice')} empty "
            "in both, counted as 1 (the tutorial's convention)",
        ),
        ("Dice of all pixels", share(summary["dice_global"])),
        ("precision, recall", f"{share(summary['precision'])}, {share(summary['recall'])}"),
        *(_lines_of_whole_cases(summary) if "hd95_per_patient" in summary else []),
        ("seconds per case", f"{summary['seconds_per_case']:.2f}"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in lines)


def _lines_of_whole_cases(summary: dict) -> list[tuple[str, str]]:
    hd95, lesions, unit = summary["hd95_per_patient"], summary["lesions"], summary.get("unit", "patient")
    defined, patients = hd95["patients"], summary["patients"]
    missing = f"; undefined for {patients - defined} of {patients}" if 0 < defined < patients else ""
    lines = [
        (f"HD95 per {unit}", spread(hd95) + missing),
        (
            f"surface Dice, {summary['surface_tolerance']:g} {hd95['unit']}",
            spread(summary["surface_dice_per_patient"]),
        ),
    ]
    if "cldice_per_patient" in summary:
        lines.append((f"clDice per {unit}", spread(summary["cldice_per_patient"])))
    if "dice_with_second_observer_per_patient" in summary:
        lines.append(("Dice, second observer", spread(summary["dice_with_second_observer_per_patient"])))
        lines.append(("Dice between observers", spread(summary["dice_between_observers_per_patient"])))
    if lesions:
        found, false, missed = (lesions[name] for name in PIXELS)
        lines.append(
            ("lesions", f"{found} found, {missed} missed, {false} false, F1 {share(lesions['f1'])}{doubt(summary)}")
        )
    for effect in summary["postprocess"]:
        before, after = effect["before"], effect["after"]
        lines.append(
            (
                f"by {effect['step']}",
                f"Dice per {unit} {share(before['dice_per_patient']['mean'])} → "
                f"{share(after['dice_per_patient']['mean'])}, false lesions "
                f"{before['lesions']['false_positive']} → {after['lesions']['false_positive']}",
            )
        )
    return lines


def doubt(summary: dict) -> str:
    """What stands beside the F1 of lesions, of which one voxel finds a whole one, where too much was predicted."""
    precision = summary.get("precision")
    if precision is None or precision >= MOSTLY_WRONG:
        return ""
    return f"; one voxel finds a lesion, and only {share(precision)} of the predicted pixels are right"


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


def _left_out(summary: dict) -> str:
    empty, unit = summary["patients_empty_in_both"], summary.get("unit", "patient")
    return f"; {empty} of {summary['patients']} {unit}s are empty in both and stand in no mean" if empty else ""


def share(value: float | None) -> str:
    """A score in words."""
    return "undefined" if value is None else f"{value:.3f}"

"""The candidates of a choice as a table: for the screen, and as the page choice.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from unet_jax.auto.best import Best
from unet_jax.auto.runs import Run
from unet_jax.data.names import shown
from unet_jax.report.scores import share

PAGE = "choice.md"


def table(best: Best) -> str:
    """The candidates, what was chosen, and its post-processing, for the screen."""
    head, rows = _rows(best)
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(f"  {line}" for line in [*text, *_verdict(best)])


def page(best: Best) -> str:
    """The same as Markdown."""
    head, rows = _rows(best)
    lines = [_in_markdown(head), "|".join(["", *["---"] * len(head), ""]), *map(_in_markdown, rows)]
    return "\n".join(["# Which configuration predicts", "", *lines, "", *(f"- {line}" for line in _verdict(best)), ""])


def states(runs: Sequence[Run]) -> str:
    """How far each run is, a line each."""
    return "\n".join(f"  {run.name}: {run.state}" for run in runs)


def _rows(best: Best) -> tuple[list[str], list[list[str]]]:
    found = best.results
    candidates = found["candidates"]
    classes = list(candidates[0]["classes"])
    head = ["candidate", "mean Dice", *(classes if len(classes) > 1 else []), f"Dice per {found['unit']}, 95 %"]
    head.append("less the chosen one's, 95 %")
    rows = [
        [f"{'→ ' if each['chosen'] else ''}{each['name']}", *_cells(each, classes), _difference(each["against_chosen"])]
        for each in candidates
    ]
    after = found["postprocessed"]
    if best.postprocessing:
        rows.append(["the chosen, post-processed", *_cells(after, classes), _difference(after["against_chosen"])])
    return head, rows


def _cells(each: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    dice = each["dice_per_patient"]
    of_classes = [share(each["classes"][name]) for name in classes] if len(classes) > 1 else []
    interval = (
        "undefined" if dice["mean"] is None else f"{dice['mean']:.3f} ({dice['ci95'][0]:.3f} to {dice['ci95'][1]:.3f})"
    )
    return [share(each["score"]), *of_classes, interval]


def _difference(found: Mapping[str, Any] | None) -> str:
    """A comparison in words; empty for the chosen candidate itself."""
    if found is None:
        return ""
    if found["mean_difference"] is None:
        return "undefined"
    low, high = found["ci95"]
    p_value = "none differs" if found["p_value"] is None else f"p = {found['p_value']:.2g}"
    return (
        f"{found['mean_difference']:+.3f} ({low:+.3f} to {high:+.3f}); {found['better']} better, {found['worse']} "
        f"worse; {p_value}"
    )


def _verdict(best: Best) -> list[str]:
    found = best.results
    name = shown(" + ".join(best.configurations))
    kept = [" and ".join(found["names"][str(key)] for key in step) for step in best.postprocessing]
    cleaned = "; ".join(f"of {names} only the largest component stays" for names in kept) or "none of nnU-Net's helps"
    return [
        f"{found['patients']} {found['unit']}s, each segmented by networks that were not trained on it, in folds "
        f"{', '.join(map(str, best.folds))}.",
        f"Chosen: {name}, of the highest mean Dice, by nnU-Net's rule: the mean over classes of each one's mean over "
        "cases.",
        f"Post-processing: {cleaned}.",
        "Scores of the chosen one are a little too high: it was chosen on the same cases, and so was its "
        "post-processing.",
    ]


def _in_markdown(cells: Sequence[str]) -> str:
    return "|".join(["", *(cell.replace("|", "\\|") for cell in cells), ""])

"""Puts the cross-validations that docs/results holds into docs/results.md, between the markers there.

    python main.py --mode=crossval --config=… --workdir=runs/wide
    cp runs/wide/crossval.json docs/results/wide.json
    python -m benchmarks.ablation

A file's name is the recipe's name in the table. `one+more.json` is compared with `one.json`, and what has no such name
with `baseline.json`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from unet_jax import pooled_scores

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
FOLDER = PAGE.parent / "results"
BASELINE = "baseline"
START, END = "<!-- ablation -->\n", "<!-- end of ablation -->"
BY_DEFAULT = object()
NOTHING = "No cross-validation is kept in docs/results yet."


def read(folder: Path = FOLDER) -> dict[str, dict]:
    """The results by recipe, the baseline first, the others from the best mean down."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return dict(sorted(found.items(), key=lambda one: (one[0] != BASELINE, -one[1]["dice_per_patient"]["mean"])))


def table(found: Mapping[str, Mapping]) -> str:
    """A row a recipe: what it changes, its cost, its scores, and the difference from what it is compared with."""
    if not found:
        return NOTHING
    lines = [
        "| recipe | changed | min a fold | folds | patients | mean Dice (95 %) | median | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        other = found.get(_compared_with(name))
        dice = one["dice_per_patient"]
        low, high = dice["ci95"]
        cells = [
            name,
            _changed(one["recipe"], other["recipe"]) if other else "",
            f"{one['minutes_per_fold']:.1f}",
            f"{len(one['folds_scored'])} of {one['folds']}",
            str(one["patients"]),
            f"{dice['mean']:.3f} ({low:.3f} to {high:.3f})",
            f"{dice['median']:.3f}",
            _against(one, other) if other else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _compared_with(name: str) -> str | None:
    """The recipe that this one differs from: "a" for "a+b", else the baseline; none for the baseline itself."""
    return name.rpartition("+")[0] or (BASELINE if name != BASELINE else None)


def _changed(recipe: Mapping, other: Mapping) -> str:
    """The keys in which two recipes differ, with this one's values; a key without one has its default.

    None is a value: of a key that is left out, such as one of the summed losses.
    """
    keys = sorted(recipe.keys() | other.keys())
    keys = [key for key in keys if recipe.get(key, BY_DEFAULT) != other.get(key, BY_DEFAULT)]
    return ", ".join(f"`{key}={recipe[key]}`" if key in recipe else f"`{key}` as by default" for key in keys)


def _against(one: Mapping, other: Mapping) -> str:
    """Over the patients that both have scored, which may be those of some folds."""
    ours, theirs = one["dice_by_patient"], other["dice_by_patient"]
    if not (common := sorted(ours.keys() & theirs.keys())):
        return "other patients"
    compared = pooled_scores.compare(*({patient: dice[patient] for patient in common} for dice in (ours, theirs)))
    return f"{len(common)} patients: {pooled_scores.difference(compared)}"


def fill(page: str, folder: Path = FOLDER) -> str:
    """The page with the table made anew."""
    pattern = rf"({re.escape(START)}).*?({re.escape(END)})"
    text = table(read(folder))
    page, count = re.subn(pattern, lambda match: f"{match[1]}{text}\n{match[2]}", page, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{PAGE} has {count} sections {START.strip()}; it needs one.")
    return page


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text()))

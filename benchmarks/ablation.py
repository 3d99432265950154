"""Fills the tables of docs/results.md from the cross-validations in docs/results, between the markers there.

    python main.py --mode=crossval --config=… --workdir=runs/wide
    cp runs/wide/crossval.json docs/results/wide.json
    python -m benchmarks.ablation

A file's name is the recipe's name in the tables. `one+more.json` is compared with `one.json`, any other with
`baseline.json`: there is a table for each that others are compared with.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import results
from unet_jax.crossval import pooled

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
FOLDER = PAGE.parent / "results"
BASELINE = "baseline"
SECTION = "ablation"
COLUMNS = (
    "recipe",
    "changed",
    "min a fold",
    "folds",
    "patients",
    "mean Dice (95 %)",
    "median",
    "difference (95 %)",
    "better",
    "p",
)
BY_DEFAULT = object()


def read(folder: Path = FOLDER) -> dict[str, dict]:
    """The results by recipe, from the best mean down."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return dict(sorted(found.items(), key=lambda one: -one[1]["dice_per_patient"]["mean"]))


def tables(found: Mapping[str, Mapping]) -> str:
    """A table for each recipe that others are compared with, the baseline first: itself, then those."""
    by_other: dict[str, list[str]] = {BASELINE: []}
    for name in found:
        if (other := _compared_with(name)) is not None:
            by_other.setdefault(other, []).append(name)
    if lacking := sorted(by_other.keys() - found.keys()):
        raise SystemExit(f"{lacking[0]}.json, which other recipes are compared with, is not in docs/results.")
    return "\n\n".join(_table(found, other, names) for other, names in by_other.items())


def _table(found: Mapping[str, Mapping], other: str, names: Sequence[str]) -> str:
    """A row a recipe: what it changes, its cost, its scores, and the difference from the recipe in the first row."""
    reference = found[other]
    lines = [
        f"Compared with `{other}`:",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        _row(other, reference, "", ["", "", ""]),
    ]
    for name in names:
        one = found[name]
        lines.append(_row(name, one, _changed(one["recipe"], reference["recipe"]), _against(one, reference)))
    return "\n".join(lines)


def _row(name: str, one: Mapping, changed: str, difference: Sequence[str]) -> str:
    dice = one["dice_per_patient"]
    low, high = dice["ci95"]
    cells = [
        name,
        changed,
        f"{one['minutes_per_fold']:.1f}",
        f"{len(one['folds_scored'])} of {one['folds']}",
        str(one["patients"]),
        f"{dice['mean']:.3f} ({low:.3f} to {high:.3f})",
        f"{dice['median']:.3f}",
        *difference,
    ]
    return f"| {' | '.join(cells)} |"


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


def _against(one: Mapping, other: Mapping) -> list[str]:
    """The difference, how many are better and Wilcoxon's p, over the patients that both have scored."""
    ours, theirs = one["dice_by_patient"], other["dice_by_patient"]
    if not (common := sorted(ours.keys() & theirs.keys())):
        return ["other patients", "", ""]
    found = pooled.compare(*({patient: dice[patient] for patient in common} for dice in (ours, theirs)))
    low, high = found["ci95"]
    p_value = "" if found["p_value"] is None else f"{found['p_value']:.2g}"
    return [
        f"{found['mean_difference']:+.3f} ({low:+.3f} to {high:+.3f})",
        f"{found['better']} of {len(common)}",
        p_value,
    ]


def fill(page: str, folder: Path = FOLDER) -> str:
    """The page with the tables of what is in `folder`."""
    return results.fill_section(page, SECTION, tables(read(folder)))


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text()))

"""The page of two cross-validations of the same patients: the paired test, and each patient's difference with links."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from unet_jax.crossval.links import Reports
from unet_jax.crossval.page import score, table
from unet_jax.metrics.cases import Row
from unet_jax.metrics.summary import dice_by_patient
from unet_jax.report import static_page
from unet_jax.report.markup import tag
from unet_jax.wording import count

# Patients in the table; crossval.json of both has all.
LISTED = 100


def write(path: Path, found: Mapping[str, Any], ours: Sequence[Row], their_folder: Path, theirs: Sequence[Row]) -> None:
    """Writes the page.

    Args:
        path: where it goes, in the folder of the first.
        found: of `pooled.compare`.
        ours: the rows of the first, worst first, with their fold.
        their_folder: of the second.
        theirs: its rows.
    """
    low, high = found["ci95"]
    p_value = "none differs" if found["p_value"] is None else f"{found['p_value']:.2g}"
    names = (path.parent.resolve().name, their_folder.resolve().name)
    tiles = [
        ("Mean difference of Dice", signed(found["mean_difference"]), f"95 % interval {signed(low)} to {signed(high)}"),
        ("Better", f"{found['better']:,}", f"of {count(found['patients'], 'patient')} whose Dice both have"),
        ("Worse", f"{found['worse']:,}", f"{found['equal']:,} equal"),
        ("Wilcoxon's signed-rank test", p_value, "two-sided p of the differences"),
    ]
    cards = [
        tag("div", tag("dt", name), tag("dd", value, class_="value"), tag("dd", note, class_="quiet"), class_="card")
        for name, value, note in tiles
    ]
    pairs = _pairs(ours, theirs)
    hint = (
        f"{min(LISTED, len(pairs)):,} of {count(len(pairs), 'patient')}, those that differ most first: {names[0]} less "
        f"{names[1]}. A score opens the slices of that run's network."
    )
    lines = _lines(pairs[:LISTED], Reports(path.parent, ours), Reports(their_folder, theirs, path.parent))
    static_page.write(
        path,
        sort="Side by side",
        title=f"{names[0]} and {names[1]}",
        chips=[count(found["patients"], "patient"), "Dice per patient, paired"],
        main=[
            tag("dl", *cards, class_="tiles"),
            tag("h2", "Patients"),
            tag("p", hint, class_="quiet"),
            table(("Patient", *names, "Difference", "Better"), lines, "Patients"),
        ],
    )


def _pairs(ours: Sequence[Row], theirs: Sequence[Row]) -> list[tuple[str, Row, Row, float]]:
    """Each patient with its worst case in both and the difference of their mean Dice, largest first."""
    mine, other = _by_patient(ours), _by_patient(theirs)
    pairs = [
        (patient, mine[patient][0], other[patient][0], mine[patient][1] - other[patient][1])
        for patient in mine
        if patient in other and None not in (mine[patient][1], other[patient][1])
    ]
    return sorted(pairs, key=lambda pair: -abs(pair[3]))


def _by_patient(rows: Sequence[Row]) -> dict[str, tuple[Row, float | None]]:
    means = dice_by_patient(rows)
    worst: dict[str, Row] = {}
    for row in rows:
        worst.setdefault(row["patient"], row)
    return {patient: (row | {"mean": means[patient]}, means[patient]) for patient, row in worst.items()}


def _lines(pairs: Sequence[tuple[str, Row, Row, float]], ours: Reports, theirs: Reports) -> list[Element]:
    most = max((abs(difference) for *_, difference in pairs), default=0) or 1
    return [
        tag(
            "tr",
            tag("th", patient, scope="row"),
            tag("td", _linked(mine, ours)),
            tag("td", _linked(other, theirs)),
            tag("td", signed(difference)),
            tag("td", _bar(difference / most)),
        )
        for patient, mine, other, difference in pairs
    ]


def _linked(row: Row, reports: Reports) -> Element | str:
    address = reports.of_case(row)
    return score(row["mean"]) if address is None else tag("a", score(row["mean"]), href=address)


def _bar(share: float) -> Element:
    """A bar to the right where ours is better, to the left where theirs is."""
    side = "left" if share >= 0 else "right"
    return tag("span", tag("span", style=f"{side}: 50%; width: {50 * abs(share):.1f}%"), class_="difference")


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.3f}".replace("-", "−")

"""The page of a cross-validation: pooled scores, folds, and the worst cases, with links into the folds' reports."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from unet_jax.crossval.links import Reports
from unet_jax.metrics.cases import Row
from unet_jax.report import sections, static_page
from unet_jax.report.cases import UNDEFINED
from unet_jax.report.markup import scrolling, tag
from unet_jax.wording import count

# Cases in the table; cases.csv has all.
WORST = 50
PICTURES = {"cases.png": "Cases", "folds.png": "Dice by fold", "curves.png": "Curves of all folds"}


def write(path: Path, results: Mapping[str, Any], rows: Sequence[Row], beside: str = "") -> None:
    """Writes the page.

    Args:
        path: where it goes, in the cross-validation's folder, which has the pictures.
        results: what crossval.json holds.
        rows: of all cases with their fold, worst first.
        beside: the file of the comparison with another cross-validation, where there is one.
    """
    scored = len(results["folds_scored"])
    reports = Reports(path.parent, rows)
    main = [
        *([_comparison(results["against"], beside)] if beside else []),
        tag("h2", "Scores over all folds"),
        *sections.scores({"postprocess": []} | dict(results), rows),
        tag("h2", "Folds"),
        _folds(results["per_fold"], reports),
        tag("h2", "Worst cases"),
        tag("p", f"Of {count(len(rows), 'case')}; cases.csv has all. A name opens its slices.", class_="quiet"),
        _cases(rows[:WORST], reports),
        *_pictures(path.parent),
        *_recipe(results.get("recipe", {})),
    ]
    static_page.write(
        path,
        sort="Cross-validation",
        title=path.parent.resolve().name,
        chips=[
            count(results["patients"], "patient"),
            f"{scored} of {count(results['folds'], 'fold')}",
            f"{results['minutes_per_fold']:.1f} minutes a fold",
        ],
        main=main,
    )


def _comparison(found: Mapping[str, Any], file: str) -> Element:
    link = tag("a", f"Side by side with {found['workdir']}", href=file)
    return tag("p", link, f": {found['mean_difference']:+.3f} mean Dice per patient".replace("-", "−"), class_="beside")


def _folds(per_fold: Sequence[Mapping[str, Any]], reports: Reports) -> Element:
    names = ("Fold", "Patients", "Dice, mean", "95 % interval", "Median", "Dice of all pixels", "Epochs", "Minutes")
    lines = [
        tag(
            "tr",
            tag("th", _linked(f"fold {fold['fold']}", reports.of_fold(fold["fold"])), scope="row"),
            tag("td", f"{fold['patients']:,}"),
            tag("td", score(fold["dice_per_patient"]["mean"])),
            tag("td", interval(fold["dice_per_patient"]["ci95"])),
            tag("td", score(fold["dice_per_patient"]["median"])),
            tag("td", score(fold["dice_global"])),
            tag("td", f"{fold['epochs']:,}"),
            tag("td", f"{fold['minutes']:.1f}"),
        )
        for fold in per_fold
    ]
    return table(names, lines, "Folds")


def _cases(rows: Sequence[Row], reports: Reports) -> Element:
    names = ("Case", "Fold", "Dice", "Precision", "Recall", f"HD95, {rows[0]['distance_unit']}")
    lines = [
        tag(
            "tr",
            tag("th", _linked(row["case"], reports.of_case(row)), scope="row"),
            tag("td", str(row["fold"])),
            *(tag("td", score(row[key])) for key in ("dice", "precision", "recall")),
            tag("td", UNDEFINED if row["hd95"] is None else f"{row['hd95']:.1f}"),
        )
        for row in rows
    ]
    return table(names, lines, "Worst cases")


def _pictures(folder: Path) -> list[Element]:
    found = []
    for name, title in PICTURES.items():
        if (folder / name).is_file():
            data = base64.b64encode((folder / name).read_bytes()).decode()
            found += [tag("h2", title), tag("img", src=f"data:image/png;base64,{data}", alt=title, class_="wide")]
    return found


def _recipe(keys: Mapping[str, Any]) -> list[Element]:
    if not keys:
        return []
    lines = [
        tag("tr", tag("th", f"config.{key}", scope="row"), tag("td", tag("code", repr(value))))
        for key, value in keys.items()
    ]
    body = tag("table", tag("tbody", *lines), class_="facts")
    return [tag("h2", "Recipe: what differs from configs/default.py"), tag("div", body, class_="scroll")]


def _linked(text: str, address: str | None) -> Element | str:
    return text if address is None else tag("a", text, href=address)


def table(names: Sequence[str], lines: Sequence[Element], label: str) -> Element:
    """A table that scrolls where the page is too narrow."""
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    return scrolling(tag("table", head, tag("tbody", *lines)), label)


def score(value: float | None) -> str:
    """A score, or a dash."""
    return UNDEFINED if value is None else f"{value:.3f}"


def interval(found: Sequence[float] | None) -> str:
    """An interval, or a dash."""
    return UNDEFINED if found is None else "{:.3f} to {:.3f}".format(*found)

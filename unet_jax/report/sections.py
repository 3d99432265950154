"""The sections of the report's page, from scores and history."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from unet_jax.metrics.cases import PIXELS, Row
from unet_jax.metrics.summary import dice_by_patient
from unet_jax.report import charts, provenance
from unet_jax.report.cases import UNDEFINED
from unet_jax.report.charts import Series
from unet_jax.report.markup import scrolling, tag
from unet_jax.report.scores import doubt
from unet_jax.run.history import best_epoch
from unet_jax.wording import count


def header(title: str, summary: Mapping[str, Any], origin: Mapping[str, str]) -> list[Element]:
    """The run's name, what was scored, and where that comes from."""
    chips = [
        f"{summary['split']} split" if summary["split"] != "all" else "all cases",
        summary["split_by"],
        ", ".join(
            count(summary[f"{what}s"], name)
            for what, name in (("patient", _unit(summary)), ("case", "case"), ("slice", "slice"))
        ),
        f"{summary['checkpoint']} checkpoint, step {summary['checkpoint_step']}",
    ]
    return [
        tag("p", "Segmentation report", class_="above"),
        tag("h1", title),
        tag("ul", *(tag("li", chip) for chip in chips), class_="chips"),
        *([provenance.listed(origin)] if origin else []),
    ]


def notices(summary: Mapping[str, Any]) -> list[Element]:
    """What a reader must know before believing the scores."""
    found = []
    if summary["split_by"].startswith("leaky"):
        text = f"This split is {summary['split_by']}. The scores are higher than they would be on new patients."
        found.append(tag("div", tag("strong", "Inflated scores. "), text, class_="notice", role="note"))
    if summary["split"] == "train" or summary["split_by"] == "training cases included":
        text = "The network was trained on some or all of these cases. On new patients its scores are lower."
        found.append(tag("div", tag("strong", "Training cases. "), text, class_="notice", role="note"))
    damaged = summary.get("damaged_checkpoints")
    if damaged:
        lines = tag("ul", *(tag("li", f"step {of['step']}: {fault}") for of in damaged for fault in of["faults"]))
        found.append(tag("div", tag("strong", "Damaged checkpoints were met. "), lines, class_="notice", role="note"))
    return found


def scores(summary: Mapping[str, Any], rows: Sequence[Row]) -> list[Element]:
    """The headline scores, the distribution of Dice, and what post-processing changed."""
    dice = summary["dice_per_patient"]
    defined = {patient: value for patient, value in dice_by_patient(rows).items() if value is not None}
    headline = tag(
        "div",
        tag(
            "div",
            tag("p", f"Dice per {_unit(summary)}, mean", class_="name"),
            tag("p", _score(dice["mean"]), class_="big", id="headline"),
            tag("p", f"95 % interval {_interval(dice)}", class_="quiet"),
            tag("p", f"median {_score(dice['median'])}, standard deviation {_score(dice['std'])}", class_="quiet"),
            *_empty_in_both(summary),
            class_="card",
        ),
        *([_strip(defined, dice, _unit(summary))] if defined else []),
        class_="headline",
    )
    tiles = [
        tag(
            "div",
            tag("dt", name),
            tag("dd", value, class_="value"),
            *([tag("dd", note, class_="quiet")] if note else []),
            class_="card",
        )
        for name, value, note in _tiles(summary)
    ]
    by_class = _by_class(summary["classes"]) if "classes" in summary else []
    return [headline, tag("dl", *tiles, class_="tiles"), *by_class, *_postprocessing(summary["postprocess"])]


def _unit(summary: Mapping[str, Any]) -> str:
    """What the data call those whose scores these are: patients, or pictures or cases where nobody named patients."""
    return summary.get("unit", "patient")


def _empty_in_both(summary: Mapping[str, Any]) -> list[Element]:
    empty = summary["patients_empty_in_both"]
    text = f"{empty} of {summary['patients']} {_unit(summary)}s are empty in both and stand in no mean"
    return [tag("p", text, class_="quiet")] if empty else []


def _strip(by_patient: Mapping[str, float], dice: Mapping[str, Any], unit: str) -> Element:
    strip = tag("div", charts.dice_strip(by_patient, dice), class_="axes")
    return tag("div", tag("h3", f"Dice of each {unit}"), strip, class_="card")


def _by_class(classes: Mapping[str, Mapping[str, Any]]) -> list[Element]:
    """A table with a line a class."""
    unit = next(iter(classes.values()))["hd95_per_patient"]["unit"]
    names = ("Dice per patient", "95 % interval", "IoU", "Precision", "Recall", f"HD95, {unit}", "Surface Dice")
    lines = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", _score(of["dice_per_patient"]["mean"])),
            tag("td", _interval(of["dice_per_patient"])),
            tag("td", _score(of["iou_per_patient"]["mean"])),
            tag("td", _score(of["precision"])),
            tag("td", _score(of["recall"])),
            tag("td", _score(of["hd95_per_patient"]["mean"])),
            tag("td", _score(of["surface_dice_per_patient"]["mean"])),
        )
        for name, of in classes.items()
    ]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in ("Class", *names))))
    note = tag("p", "All other scores are the mean over these classes; lesions are of all together.", class_="quiet")
    return [note, scrolling(tag("table", head, tag("tbody", *lines), id="by-class"), "Scores by class")]


def _tiles(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and note of each score beside the headline."""
    hd95, surface = summary["hd95_per_patient"], summary["surface_dice_per_patient"]
    lesions = summary["lesions"]
    marked, its = ("of the class", "class's") if "classes" in summary else ("tumour", "tumour's")
    tiles = [
        (f"IoU per {_unit(summary)}, mean", *_spread(summary["iou_per_patient"])),
        ("Precision", _score(summary["precision"]), f"the share of the predicted pixels that are {marked}"),
        ("Recall", _score(summary["recall"]), f"the share of the {its} pixels that were found"),
        (f"HD95 per {_unit(summary)}, {hd95['unit']}", *_spread(hd95, summary["patients"])),
        (
            f"Surface Dice within {summary['surface_tolerance']:g} {hd95['unit']}",
            *_spread(surface, summary["patients"]),
        ),
        ("Dice of all pixels", _score(summary["dice_global"]), f"all {_unit(summary)}s as one volume"),
        (
            "Dice per slice, mean",
            _score(summary["dice_per_slice"]["mean"]),
            f"{summary['slices_empty_in_both']:,} of {count(summary['slices'], 'slice')} empty in both, counted as 1",
        ),
    ]
    if lesions:
        found, false, missed = (lesions[name] for name in PIXELS)
        tiles.insert(
            5,
            (
                "Lesions",
                f"{found} of {found + missed} found",
                f"{false} false, F1 {_score(lesions['f1'])}{doubt(summary)}",
            ),
        )
    if "cldice_per_patient" in summary:
        spread = _spread(summary["cldice_per_patient"], summary["patients"])
        tiles.insert(5, (f"clDice per {_unit(summary)}, mean", *spread))
    return tiles + _observers(summary)


def _observers(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Tiles that compare network and people; none where one person drew all masks."""
    titles = {
        "dice_with_second_observer_per_patient": "Dice with the second observer, mean",
        "dice_between_observers_per_patient": "Dice of the second observer with the first, mean",
    }
    return [(title, *_spread(summary[key], summary["patients"])) for key, title in titles.items() if key in summary]


def _spread(scores: Mapping[str, Any], patients: int | None = None) -> tuple[str, str]:
    """Mean, and a note with its interval and median."""
    if scores["mean"] is None:
        return UNDEFINED, "undefined for every patient"
    missing = f"; undefined for {patients - scores['patients']}" if patients and scores["patients"] < patients else ""
    return f"{scores['mean']:.3f}", f"95 % interval {_interval(scores)}, median {scores['median']:.3f}{missing}"


def _interval(scores: Mapping[str, Any]) -> str:
    return UNDEFINED if scores["ci95"] is None else "{:.3f} to {:.3f}".format(*scores["ci95"])


def _score(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.3f}"


def _postprocessing(effects: Sequence[Mapping[str, Any]]) -> list[Element]:
    if not effects:
        return []
    lines = [
        tag(
            "tr",
            tag("th", effect["step"], scope="row"),
            *(
                tag("td", f"{_score(get(effect['before']))} → {_score(get(effect['after']))}")
                for get in (
                    lambda of: of["dice_per_patient"]["mean"],
                    lambda of: of["precision"],
                    lambda of: of["recall"],
                )
            ),
        )
        for effect in effects
    ]
    head = [tag("th", name, scope="col") for name in ("Post-processing", "Dice per patient", "Precision", "Recall")]
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *lines))
    return [tag("details", tag("summary", "What post-processing changed"), scrolling(table, "Post-processing"))]


def training(epochs: Sequence[Mapping[str, Any]], scored_step: int) -> list[Element]:
    """Curves of loss and Dice, with the best epoch and the scored one, and their numbers as a table."""
    if not epochs:
        return [tag("p", "The run's folder holds no history of epochs.", class_="quiet")]
    numbers = [record["epoch"] for record in epochs]
    best = best_epoch(epochs)["epoch"]
    scored = next((record["epoch"] for record in epochs if record["step"] == scored_step), best)
    marks = {f"best and scored: epoch {best}": best} if scored == best else {"best": best, "scored": scored}
    loss = _series(epochs, {"train_loss": ("training", "training"), "val_loss": ("validation", "validation")})
    dice = _series(
        epochs,
        {
            "train_dice": ("training, mean over batches", "training"),
            "val_dice": ("validation, mean over patients", "validation"),
        },
    )
    top = max(itertools.chain.from_iterable(series.values for series in loss)) * 1.05 or 1.0
    pair = tag(
        "div",
        *(
            tag("div", charts.curves(name, numbers, series, marks, limit), class_="card")
            for name, series, limit in (("Loss", loss, top), ("Dice", dice, 1.0))
        ),
        class_="pair",
    )
    return [pair, tag("details", tag("summary", "The numbers by epoch"), scrolling(_epochs(epochs), "Epochs"))]


def _series(epochs: Sequence[Mapping[str, Any]], names: Mapping[str, tuple[str, str]]) -> list[Series]:
    return [
        Series(label, style, [record[key] for record in epochs])
        for key, (label, style) in names.items()
        if all(record.get(key) is not None for record in epochs)
    ]


def _epochs(epochs: Sequence[Mapping[str, Any]]) -> Element:
    keys = [key for key in epochs[0] if key != "epoch"]
    head = [tag("th", key.replace("_", " "), scope="col") for key in ("epoch", *keys)]
    lines = [
        tag(
            "tr",
            tag("th", str(record["epoch"]), scope="row"),
            *(tag("td", _cell(record.get(key))) for key in keys),
        )
        for record in epochs
    ]
    return tag("table", tag("thead", tag("tr", *head)), tag("tbody", *lines))


def _cell(value: float | int | None) -> str:
    if value is None:
        return UNDEFINED
    return f"{value:.4g}" if isinstance(value, float) else str(value)

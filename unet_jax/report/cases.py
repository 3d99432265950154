"""The part of the report's page that shows cases: their table, and the choices of their viewer."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from xml.etree.ElementTree import Element

from unet_jax.colours import colour_of
from unet_jax.metrics.cases import BETWEEN_OBSERVERS, CLASSES, CLDICE, WITH_SECOND, Row
from unet_jax.report.markup import scrolling, tag
from unet_jax.wording import count

UNDEFINED = "–"
TEXTS = ("case", "patient")

# Key, heading and format.
Column = tuple[str, str, str]


def table(
    rows: Sequence[Row], pictured: AbstractSet[str], columns: Sequence[Column], *, is_part: bool = False
) -> list[Element]:
    """The table of cases, and which of them have no pictures.

    Args:
        rows: worst first.
        pictured: the names of the cases that can be opened.
        columns: of `columns_of`.
        is_part: whether these are on one page of several.
    """
    rows = [row | {_dice_of(name): of["dice"] for name, of in row.get(CLASSES, {}).items()} for row in rows]
    head = [
        tag(
            "th",
            tag("button", label, type="button"),
            scope="col",
            class_="text" if key in TEXTS else None,
            aria_sort="ascending" if key == "dice" else "none",
        )
        for key, label, _ in columns
    ]
    body = [_case(number, row, columns, row["case"] in pictured) for number, row in enumerate(rows)]
    cases = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), id="table")
    missing = [row["case"] for row in rows if row["case"] not in pictured]
    sorts = "the headings sort this page, and cases.csv has all cases" if is_part else "the headings sort"
    hint = f"Worst first; {sorts}. A case's name opens its slices with true and predicted outlines."
    found = [tag("p", hint, class_="quiet"), scrolling(cases, "Cases")]
    if missing:
        found.append(
            tag(
                "details",
                tag("summary", f"{len(missing):,} of {count(len(rows), 'case')} without pictures here"),
                tag("p", "The page is kept small enough to send, and the worst cases have theirs. These have none:"),
                tag("p", ", ".join(missing), id="without-pictures"),
            )
        )
    return found


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The table's columns, of all pages."""
    in_ml = rows[0]["volume_unit"] == "ml"
    columns = [
        ("case", "Case", ""),
        ("dice", "Dice", ".3f"),
        *((_dice_of(name), f"Dice, {name}", ".3f") for name in rows[0].get(CLASSES, {})),
        ("iou", "IoU", ".3f"),
        ("precision", "Precision", ".3f"),
        ("recall", "Recall", ".3f"),
        ("hd95", f"HD95, {rows[0]['distance_unit']}", ".1f"),
        ("surface_dice", "Surface Dice", ".3f"),
        *([(CLDICE, "clDice", ".3f")] if CLDICE in rows[0] else []),
        *([(WITH_SECOND, "Dice, second observer", ".3f")] if WITH_SECOND in rows[0] else []),
        *([(BETWEEN_OBSERVERS, "Dice, observers", ".3f")] if BETWEEN_OBSERVERS in rows[0] else []),
        ("volume_difference", f"Volume difference, {rows[0]['volume_unit']}", "+,.1f" if in_ml else "+,.0f"),
        ("lesions_false_negative", "Lesions missed", "d"),
        ("lesions_false_positive", "Lesions false", "d"),
        ("slices", "Slices", "d"),
    ]
    several = len({row["patient"] for row in rows}) < len(rows)
    return [*columns, ("patient", "Patient", "")] if several else columns


def _dice_of(name: str) -> str:
    return f"dice of {name}"


def _case(number: int, row: Row, columns: Sequence[Column], pictured: bool) -> Element:
    cells = []
    for key, _, form in columns:
        value = row[key]
        text = UNDEFINED if value is None else format(value, form)
        content: list[Element | str] = [text if key in TEXTS else text.replace("-", "−")]
        if key == "case" and pictured:
            content = [tag("button", text, type="button", class_="open", aria_haspopup="dialog")]
        elif key == "dice" and value is not None:
            content.insert(0, tag("span", class_="meter", style=f"--share:{100 * value:.1f}%", aria_hidden="true"))
        cells.append(
            tag(
                "th" if key == "case" else "td",
                *content,
                scope="row" if key == "case" else None,
                class_="text" if key in TEXTS else None,
                data_value="" if value is None else value,
            )
        )
    opens = {"class_": "clickable", "data_pictures": pictures_id(number)} if pictured else {}
    return tag("tr", *cells, **opens)


def pictures_id(number: int) -> str:
    """Of the element that holds the pictures of the case in row `number`."""
    return f"pictures-{number}"


def outlines(classes: Sequence[str]) -> list[Element]:
    """The viewer's outlines, still empty, those on top last: of each of several classes, in its colour."""
    kinds = ("true", "predicted")
    if not classes:
        return [tag("path", class_=f"{halo}{kind}") for halo in ("halo ", "") for kind in kinds]
    # Each is drawn within its own border: of two classes that touch, both can be seen.
    insides = [
        tag("clipPath", tag("path"), id=f"inside-{kind}-{number}") for number in range(len(classes)) for kind in kinds
    ]
    paths = [
        tag(
            "path",
            class_=f"{halo}{kind}",
            data_class=number - 1,
            style=_in_colour(number),
            clip_path=None if halo else f"url(#inside-{kind}-{number - 1})",
        )
        for halo in ("halo ", "")
        for number in range(1, len(classes) + 1)
        for kind in kinds
    ]
    return [tag("defs", *insides), *paths]


def class_choice(classes: Sequence[str]) -> list[Element]:
    """The viewer's choice of which of several classes are outlined; none for one."""
    if not classes:
        return []
    labels = [
        tag(
            "label",
            tag("input", type="checkbox", class_="show-class", data_class=number - 1, checked="checked"),
            tag("span", class_="key class", style=_in_colour(number)),
            tag("span", name),
        )
        for number, name in enumerate(classes, 1)
    ]
    return [tag("fieldset", tag("legend", "Classes"), *labels, id="classes")]


def _in_colour(number: int) -> str:
    return f"--class: {colour_of(number)}"


def sequence_choice(sequences: Sequence[str], first: int) -> Element:
    """The viewer's choice between the image's channels."""

    def radio(number: int) -> Element:
        chosen = "checked" if number == first else None
        return tag("input", type="radio", name="sequence", value=number, checked=chosen)

    labels = [tag("label", radio(number), f" {name}") for number, name in enumerate(sequences)]
    return tag("fieldset", tag("legend", "Sequence"), *labels)

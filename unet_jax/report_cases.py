"""The part of the report's page that shows cases: their table, and the choices of their viewer."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from xml.etree.ElementTree import Element

from unet_jax.markup import scrolling, tag
from unet_jax.scoring import Row

UNDEFINED = "–"
TEXTS = ("case", "patient")


def table(rows: Sequence[Row], pictured: AbstractSet[str]) -> list[Element]:
    """The table of cases, and which of them have no pictures.

    Args:
        rows: worst first.
        pictured: the names of the cases that can be opened.
    """
    columns = _columns(rows)
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
    hint = "Worst first; the headings sort. A case's name opens its slices with true and predicted outlines."
    found = [tag("p", hint, class_="quiet"), scrolling(cases, "Cases")]
    if missing:
        found.append(
            tag(
                "details",
                tag("summary", f"{len(missing)} of {len(rows)} cases have no pictures here"),
                tag("p", "The page is kept small enough to send, and the worst cases have theirs. These have none:"),
                tag("p", ", ".join(missing), id="without-pictures"),
            )
        )
    return found


def _columns(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Key, heading and format of the table's columns."""
    in_ml = rows[0]["volume_unit"] == "ml"
    columns = [
        ("case", "Case", ""),
        ("dice", "Dice", ".3f"),
        ("iou", "IoU", ".3f"),
        ("precision", "Precision", ".3f"),
        ("recall", "Recall", ".3f"),
        ("hd95", f"HD95, {rows[0]['distance_unit']}", ".1f"),
        ("surface_dice", "Surface Dice", ".3f"),
        ("volume_difference", f"Volume difference, {rows[0]['volume_unit']}", "+,.1f" if in_ml else "+,.0f"),
        ("lesions_false_negative", "Lesions missed", "d"),
        ("lesions_false_positive", "Lesions false", "d"),
        ("slices", "Slices", "d"),
    ]
    several = len({row["patient"] for row in rows}) < len(rows)
    return [*columns, ("patient", "Patient", "")] if several else columns


def _case(number: int, row: Row, columns: Sequence[tuple[str, str, str]], pictured: bool) -> Element:
    cells = []
    for key, _, form in columns:
        value = row[key]
        text = UNDEFINED if value is None else format(value, form)
        content: list[Element | str] = [text if key in TEXTS else text.replace("-", "−")]
        if key == "case" and pictured:
            content = [tag("button", text, type="button", class_="open", aria_haspopup="dialog")]
        elif key == "dice":
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


def sequence_choice(sequences: Sequence[str], first: int) -> Element:
    """The viewer's choice between the image's channels."""

    def radio(number: int) -> Element:
        chosen = "checked" if number == first else None
        return tag("input", type="radio", name="sequence", value=number, checked=chosen)

    labels = [tag("label", radio(number), f" {name}") for number, name in enumerate(sequences)]
    return tag("fieldset", tag("legend", "Sequence"), *labels)

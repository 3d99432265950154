"""The page that finds a case of a report of several pages by a part of its name, from the disk too."""

import json
from collections.abc import Sequence

from unet_jax.data.names import shown
from unet_jax.metrics.cases import Row
from unet_jax.report import pages
from unet_jax.report.markup import tag, to_html
from unet_jax.report.template import filled, head, resource


def page(title: str, rows: Sequence[Row]) -> str:
    """The page, which has the names of all cases and nothing of their pictures.

    Args:
        title: the report's.
        rows: of all cases, worst first.
    """
    script = resource("search.js")
    heading = [tag("p", tag("a", "‹ Report", href=pages.FIRST), class_="above"), tag("h1", title)]
    parts = {
        "head": head(f"{title}: find a case", script),
        "script": script,
        "heading": to_html(*heading, pages.search_form()),
        "everyone": _everyone(rows),
    }
    return filled(resource("search.html"), parts)


def _everyone(rows: Sequence[Row]) -> str:
    """JSON that cannot end the element that holds it: name and Dice of each case, and its patient's if that differs."""
    cases = [
        [shown(row["case"]), None if row["dice"] is None else round(row["dice"], 3)]
        + ([shown(row["patient"])] if row["patient"] != row["case"] else [])
        for row in rows
    ]
    content = {"files": pages.names(len(rows)), "onPage": pages.CASES_A_PAGE, "cases": cases}
    return json.dumps(content, separators=(",", ":")).replace("<", r"\u003c")

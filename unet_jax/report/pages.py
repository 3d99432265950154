"""Which cases of a report stand on which page: a hundred on each, worst first, and the way from page to page."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from unet_jax.metrics.cases import Row
from unet_jax.report.markup import tag

CASES_A_PAGE = 100
FIRST, SEARCH = "report.html", "cases-search.html"


def names(cases: int) -> list[str]:
    """The files of a report of so many cases."""
    return [FIRST, *(f"cases-{number:04d}.html" for number in range(2, -(-cases // CASES_A_PAGE) + 1))]


def rows_of(page: int, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows of a page, counted from 0."""
    return rows[page * CASES_A_PAGE : (page + 1) * CASES_A_PAGE]


def navigation(page: int, rows: Sequence[Row]) -> list[Element]:
    """Where a page stands among the others, and links to all of them; nothing where there is one page.

    Args:
        page: counted from 0.
        rows: of all cases, worst first.
    """
    files = names(len(rows))
    if len(files) == 1:
        return []
    first = page * CASES_A_PAGE + 1
    last = min(first + CASES_A_PAGE - 1, len(rows))
    steps = [
        tag("a", label, href=files[other], rel=rel)
        for label, rel, other in (("‹ Worse cases", "prev", page - 1), ("Better cases ›", "next", page + 1))
        if 0 <= other < len(files)
    ]
    items = [_item(number, name, rows_of(number, rows), number == page) for number, name in enumerate(files)]
    return [
        tag(
            "nav",
            tag("p", f"Cases {first:,} to {last:,} of {len(rows):,}, on page {page + 1:,} of {len(files):,}. "),
            tag("p", *steps, class_="steps"),
            search_form(),
            tag("details", tag("summary", f"All {len(files):,} pages, by Dice"), tag("ol", *items, class_="pages")),
            aria_label="Pages of cases",
        )
    ]


def search_form() -> Element:
    """Asks the page of `search` for a part of a case's name, without a script."""
    box = tag("input", type="search", name="q", size=24, autocomplete="off", spellcheck="false")
    return tag("form", tag("label", "Find a case ", box), tag("button", "Find"), action=SEARCH, role="search")


def _item(number: int, name: str, rows: Sequence[Row], here: bool) -> Element:
    dice = [row["dice"] for row in rows if row["dice"] is not None]
    span = f"{dice[0]:.3f} to {dice[-1]:.3f}" if dice else "undefined"
    return tag("li", tag("a", span, href=name, aria_current="page" if here else None), value=number + 1)

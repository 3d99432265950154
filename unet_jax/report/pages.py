"""Which cases of a report stand on which page: a hundred on each, worst first, and the way from page to page."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from unet_jax.metrics.cases import Row
from unet_jax.report.markup import tag

CASES_A_PAGE = 100
FIRST, SEARCH = "report.html", "cases-search.html"
# On the first page: the list of all.
ALL = "all-pages"


def names(cases: int) -> list[str]:
    """The files of a report of so many cases."""
    return [FIRST, *map(_file_of, range(1, _pages(cases)))]


def _pages(cases: int) -> int:
    return -(-cases // CASES_A_PAGE)


def _file_of(page: int) -> str:
    """The file of a page, counted from 0."""
    return f"cases-{page + 1:04d}.html" if page else FIRST


def rows_of(page: int, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows of a page, counted from 0."""
    return rows[page * CASES_A_PAGE : (page + 1) * CASES_A_PAGE]


def navigation(page: int, rows: Sequence[Row]) -> list[Element]:
    """Where a page stands among the others, and links to its neighbours; nothing where there is one page.

    The first page lists all of them, and the others lead there: so their size does not grow with the number of cases.

    Args:
        page: counted from 0.
        rows: of all cases, worst first.
    """
    count = _pages(len(rows))
    if count <= 1:
        return []
    first = page * CASES_A_PAGE + 1
    last = min(first + CASES_A_PAGE - 1, len(rows))
    steps = [
        tag("a", label, href=_file_of(other), rel=rel)
        for label, rel, other in (("‹ Worse cases", "prev", page - 1), ("Better cases ›", "next", page + 1))
        if 0 <= other < count
    ]
    title = f"All {count:,} pages, by Dice"
    link = tag("p", tag("a", title, href=f"{FIRST}#{ALL}"))
    return [
        tag(
            "nav",
            tag("p", f"Cases {first:,} to {last:,} of {len(rows):,}, on page {page + 1:,} of {count:,}. "),
            tag("p", *steps, class_="steps"),
            search_form(),
            link if page else _all(title, rows),
            aria_label="Pages of cases",
        )
    ]


def search_form() -> Element:
    """Asks the page of `search` for a part of a case's name, without a script."""
    box = tag("input", type="search", name="q", size=24, autocomplete="off", spellcheck="false")
    return tag("form", tag("label", "Find a case ", box), tag("button", "Find"), action=SEARCH, role="search")


def _all(title: str, rows: Sequence[Row]) -> Element:
    items = [_item(number, name, rows_of(number, rows)) for number, name in enumerate(names(len(rows)))]
    return tag("details", tag("summary", title), tag("ol", *items, class_="pages"), id=ALL)


def _item(number: int, name: str, rows: Sequence[Row]) -> Element:
    dice = [row["dice"] for row in rows if row["dice"] is not None]
    span = f"{dice[0]:.3f} to {dice[-1]:.3f}" if dice else "undefined"
    return tag("li", tag("a", span, href=name, aria_current=None if number else "page"), value=number + 1)

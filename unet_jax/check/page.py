"""The page of a check: findings, the table, and a contact sheet with every case; one file, without any script."""

import base64
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from unet_jax.check.facts import Fact
from unet_jax.check.survey import Surveyed
from unet_jax.colours import TRUE, colour_of
from unet_jax.report import static_page
from unet_jax.report.markup import tag
from unet_jax.wording import count


def write(
    path: Path,
    title: str,
    *,
    refusals: Sequence[str],
    findings: Sequence[str],
    facts: Sequence[Fact],
    cases: Sequence[Surveyed],
    classes: Sequence[str],
) -> None:
    """Writes the page.

    Args:
        path: where it goes.
        title: the data set's name.
        refusals: why training would not begin.
        findings: what is odd.
        facts: the table.
        cases: with their pictures.
        classes: the names of several; empty for one.
    """
    verdict = "training would refuse it" if refusals else "training would take it"
    chips = [count(len(cases), "case"), verdict, count(len(findings), "finding")]
    sections = [
        *_notice("Training with this config would refuse: ", refusals, "refusals"),
        *_notice("To look at: ", findings, "findings"),
        *(_table(facts) if facts else []),
        *(_sheet(cases, classes) if cases else []),
    ]
    static_page.write(path, sort="Data check", title=title, chips=chips, main=sections)


def _notice(heading: str, lines: Sequence[str], name: str) -> list[Element]:
    if not lines:
        return []
    listed = tag("ul", *(tag("li", line) for line in lines))
    return [tag("div", tag("strong", heading), listed, class_="notice", role="note", id=name)]


def _table(facts: Sequence[Fact]) -> list[Element]:
    lines = [tag("tr", tag("th", name, scope="row"), tag("td", text)) for name, text in facts]
    table = tag("table", tag("tbody", *lines), class_="facts", id="facts")
    return [tag("h2", "The data"), tag("div", table, class_="scroll")]


def _sheet(cases: Sequence[Surveyed], classes: Sequence[str]) -> list[Element]:
    names = {name: colour_of(number) for number, name in enumerate(classes, 1)} or {"marked": TRUE}
    legend = [
        tag("li", tag("span", class_="key class", style=f"--class: {colour}"), name) for name, colour in names.items()
    ]
    hint = (
        "Each case's slice with the most that is marked, or its middle one where nothing is. Pictures are brightened."
    )
    return [
        tag("h2", "The cases"),
        tag("p", hint, class_="quiet"),
        tag("ul", *legend, class_="legend"),
        tag("ul", *map(_figure, cases), class_="sheet", id="sheet"),
    ]


def _figure(case: Surveyed) -> Element:
    source = f"data:image/jpeg;base64,{base64.b64encode(case.picture).decode()}"
    where = "" if case.shape[0] == 1 else f", slice {case.slice_shown + 1} of {case.shape[0]}"
    nothing = "" if case.is_marked else ", nothing marked"
    return tag("li", tag("img", src=source, alt=""), tag("span", f"{case.name}{where}{nothing}"))

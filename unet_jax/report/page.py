"""The page that shows an evaluation: one HTML file with all it needs inside, for any browser and no network.

Of more than a hundred cases, it has the hundred worst ones, and further pages the others: see `pages`. Another finds
them by name: see `search`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_jax.files import write_text
from unet_jax.metrics.cases import Row
from unet_jax.report import cases as report_cases
from unet_jax.report import pages, provenance, search, sections
from unet_jax.report.markup import to_html
from unet_jax.report.template import filled, head, resource

# What only the first page has.
ONCE = re.compile(r'<section aria-labelledby="(?:scores|training|run)">.*?</section>\n', re.DOTALL)
# Characters of pictures and outlines, all pages together; 16 LGG patients take about 11 million.
BUDGET = 14_000_000


def write(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    epochs: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    sequences: Sequence[str],
    first_sequence: int,
    pictures: Mapping[str, str],
    origin: Mapping[str, str] | None = None,
) -> None:
    """Writes the page, and those of further cases beside it.

    Args:
        path: where it goes, called `pages.FIRST`.
        title: the run's name.
        summary: what metrics.json holds.
        rows: of `scoring.score_cases`, worst first.
        epochs: the history's records that close an epoch; there may be none.
        config: the run's, resolved.
        sequences: the names of the images' channels.
        first_sequence: the one to be shown first.
        pictures: of `report_pictures.within_budget`: JSON by the case's name. Cases may be missing.
        origin: what was run, when and on what, for the top of the page: `provenance.origin`.
    """
    classes = list(summary.get("classes", ()))
    script = resource("stage.js") + resource("page.js")
    parts = {
        "head": head(f"{title}: {summary['split']}", script),
        "script": script,
        "header": to_html(*sections.header(title, summary, origin or {})),
        "notices": to_html(*sections.notices(summary)),
        "scores": to_html(*sections.scores(summary, rows)),
        "outlines": to_html(*report_cases.outlines(classes)),
        "classes": to_html(*report_cases.class_choice(classes)),
        "sequences": to_html(report_cases.sequence_choice(sequences, first_sequence)),
        "training": to_html(*sections.training(epochs, summary["checkpoint_step"])),
        "run": to_html(*provenance.facts(summary, config)),
    }
    columns = report_cases.columns_of(rows)
    for number, name in enumerate(pages.names(len(rows))):
        template = resource("page.html")
        of_page = _cases(number, rows, columns, pictures)
        if number:
            write_text(path.with_name(name), filled(ONCE.sub("", template), parts | of_page))
        else:
            write_text(path, filled(template, parts | of_page))
    if len(rows) > pages.CASES_A_PAGE:
        write_text(path.with_name(pages.SEARCH), search.page(f"{title}: {summary['split']}", rows))


def _cases(
    page: int, rows: Sequence[Row], columns: Sequence[report_cases.Column], pictures: Mapping[str, str]
) -> dict[str, str]:
    """What a page, counted from 0, has of its own."""
    here = pages.rows_of(page, rows)
    table = report_cases.table(here, pictures.keys(), columns, is_part=len(rows) > len(here))
    return {
        "cases": to_html(*pages.navigation(page, rows), *table),
        # numbers, base64 and outlines: no text that somebody else wrote
        "pictures": "\n".join(
            f'<script type="application/json" id="{report_cases.pictures_id(number)}">{pictures[row["case"]]}</script>'
            for number, row in enumerate(here)
            if row["case"] in pictures
        ),
    }

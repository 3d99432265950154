"""A page of the report's style without any script: one HTML file with all it needs inside."""

import html
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from unet_jax.data.names import shown
from unet_jax.files import write_text
from unet_jax.report.markup import tag, to_html
from unet_jax.report.template import resource

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
{header}
<main>
{main}
</main>
</body>
</html>
"""


def write(path: Path, *, sort: str, title: str, chips: Sequence[str], main: Sequence[Element]) -> None:
    """Writes the page.

    Args:
        path: where it goes.
        sort: of page, such as "Data check".
        title: what it is of.
        chips: the facts under the title.
        main: the rest.
    """
    header = tag(
        "header",
        tag("p", sort, class_="above"),
        tag("h1", title),
        tag("ul", *(tag("li", chip) for chip in chips), class_="chips"),
    )
    page = PAGE.format(
        title=html.escape(shown(f"{title}: {sort.lower()}")),
        style=resource("page.css"),
        header=to_html(header),
        main=to_html(*main),
    )
    write_text(path, page)

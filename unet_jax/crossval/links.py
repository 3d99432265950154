"""Where the reports of a cross-validation's folds are, as seen from a page of another folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from unet_jax.crossval import folds
from unet_jax.metrics.cases import Row
from unet_jax.report import pages
from unet_jax.run.folder import EVALUATION


class Reports:
    """Addresses of reports, and of cases in them; None where there is no such report.

    Args:
        workdir: the cross-validation's folder.
        rows: of all its cases with their fold, worst first.
        seen_from: the folder of the page with the links; None: `workdir`.
    """

    def __init__(self, workdir: Path, rows: Sequence[Row], seen_from: Path | None = None):
        self._workdir, self._seen_from = workdir, seen_from or workdir
        places: dict[int, int] = {}
        self._page = {}
        for row in rows:
            place = places.get(row["fold"], 0)
            self._page[row["case"]] = place // pages.CASES_A_PAGE
            places[row["fold"]] = place + 1
        self._counts = places

    def of_fold(self, fold: int, page: int = 0) -> str | None:
        """The address of a page of a fold's report."""
        names = pages.names(self._counts.get(fold, 0))
        path = folds.folder_of(self._workdir, fold) / EVALUATION / "test" / names[page]
        return quote(Path(os.path.relpath(path, self._seen_from)).as_posix()) if path.is_file() else None

    def of_case(self, row: Row) -> str | None:
        """The address at which a fold's report opens with a case."""
        address = self.of_fold(row["fold"], self._page[row["case"]])
        return address and f"{address}#case={quote(row['case'], safe='')}"

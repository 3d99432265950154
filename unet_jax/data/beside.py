"""Files that lie with those of cases and are not read."""

from collections.abc import Sequence

from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles

# Cases that the line names.
LISTED = 5


def note(listing: Sequence[CaseFiles]) -> str | None:
    """A line that names them; None where there are none."""
    beside = [f"{shown(files.name)}: {files.beside}" for files in listing if files.beside]
    if not beside:
        return None
    more = f"; and in {len(beside) - LISTED} more" if len(beside) > LISTED else ""
    return f"Not read, because they are not of the series: {'; '.join(beside[:LISTED])}{more}."

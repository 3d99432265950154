"""Two patterns for a folder that nobody knows the layout of: those that would pair the most files."""

from collections.abc import Sequence
from pathlib import Path


def proposal(paths: Sequence[Path]) -> str:
    """A sentence with the flags to try; empty where nothing pairs."""
    del paths
    return ""

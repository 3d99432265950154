"""What is wrong with files: one line a mistake, with a count and examples, however many files have it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from unet_jax.data.names import shown
from unet_jax.errors import InputError, RunError
from unet_jax.files import write_text

# A mistake names so many files; a message has so many lines. The rest is in the full list.
EXAMPLES = 3
LINES = 40
# The full list's name, in the folder that a reader of the data may write to.
FULL_LIST = "faults.txt"


class Fault(str):
    """A line about one file, folder or case. It is a plain string that also knows its kind.

    Attributes:
        where: the file's name, as messages show it.
        kind: the same for all files with the same mistake.
    """

    where: str
    kind: str

    def __new__(cls, where: PurePath | str, mistake: str, kind: str | None = None):
        """Makes the line `<where>: <mistake>`.

        Args:
            where: the file, folder or case.
            mistake: what is wrong with it and what to do.
            kind: what to count it under; by default the mistake itself without numbers and file names.
        """
        fault = super().__new__(cls, f"{shown(where)}: {mistake}")
        fault.where = shown(where)
        fault.kind = kind or _without_names(mistake)
        return fault


class FaultsError(InputError):
    """Several faults at once; its message has a line for each.

    Attributes:
        faults: the lines.
    """

    def __init__(self, faults: Iterable[str]):
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def lines_of(error: InputError) -> list[str]:
    """The faults that an error is about, of one line each."""
    if isinstance(error, FaultsError):
        return list(error.faults)
    [only] = error.args
    return [only] if isinstance(only, Fault) else str(error).splitlines()


def summary(faults: Sequence[str], full_list: Path | None = None) -> str:
    """One line a mistake: up to three files with the same one have a line each, more are counted.

    Args:
        faults: lines, plain ones or of `Fault`, in the order of the files.
        full_list: where all of them are written if some are only counted; None writes no list.
    """
    kinds: dict[str, list[Fault]] = {}
    for fault in map(_as_fault, faults):
        kinds.setdefault(fault.kind, []).append(fault)
    if len(kinds) <= LINES and all(len(alike) <= EXAMPLES for alike in kinds.values()):
        return "\n".join(fault for alike in kinds.values() for fault in alike)
    place = _written(faults, full_list)
    lines = [line for alike in kinds.values() for line in _lines(alike, place)]
    if len(lines) > LINES:
        lines[LINES:] = [f"… and {len(lines) - LINES:,} more lines{place and f', all in {place}'}."]
    return "\n".join(lines)


def _lines(alike: list[Fault], place: str) -> list[str]:
    if len(alike) <= EXAMPLES:
        return list(alike)
    others = ", ".join(fault.where for fault in alike[1:EXAMPLES])
    rest = f"; all are listed in {place}" if place else ""
    return [f"{alike[0]} Found {len(alike):,} times, also in {others}, …{rest}."]


def _written(faults: Sequence[str], path: Path | None) -> str:
    """The path of the full list; empty where there is none: what is wrong with the files matters more."""
    if path is None:
        return ""
    try:
        write_text(path, "".join(f"{line}\n" for line in faults))
    except (OSError, RunError):
        return ""
    return str(path)


def _as_fault(line: str) -> Fault:
    if isinstance(line, Fault):
        return line
    where, separator, mistake = line.partition(": ")
    return Fault(where, mistake) if separator else Fault(line, "")


def _without_names(mistake: str) -> str:
    """A mistake without what differs from file to file: brackets, numbers, and words that look like file names."""
    text = re.sub(r"\([^()]*\)", "", mistake)
    words = ["#" if re.search(r"[0-9/_…]|\.\w", word) else word for word in text.split()]
    return re.sub(r"#(?: #)+", "#", " ".join(words))

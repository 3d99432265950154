"""Names of cases, patients and files, which come from outside: which can be used, and how a message shows them."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

# Control characters, line and paragraph separators, and bytes that are no text at all.
UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shown(name: PurePath | str) -> str:
    """A name on one line: what would break the line or the terminal is escaped."""
    return UNUSABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), str(name))


def name_faults(names: Sequence[tuple[str, str]]) -> list[tuple[str, ...]]:
    """What is wrong with the names of each case of a data set; names become file names and lines of tables.

    Args:
        names: (case, patient) of each case.

    Returns:
        As many tuples, of one line a fault: a name that cannot be a file's, two cases of one name, names that differ
        in capital letters or in the way accents are written alone: on many disks they are one file, and two patients
        of such names are probably one, who must not stand on two sides of a split.
    """
    cases, patients = {}, {}
    found = []
    for case, patient in names:
        faults = []
        if UNUSABLE.search(case + patient):
            faults.append(f"{shown(case)}: the name has a line break, control character or broken letter: rename it.")
        if not case or case.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", case):
            faults.append(f"{shown(case)!r}: this cannot be a case's name, which becomes a file's name: rename it.")
        other_case, other_patient = cases.get(_folded(case)), patients.setdefault(_folded(patient), patient)
        cases.setdefault(_folded(case), case)
        if other_case == case:
            faults.append(f"{shown(case)}: two cases have this name: rename or remove one of them.")
        elif other_case is not None:
            faults.append(_alike(case, "case", other_case))
        elif other_patient != patient:
            faults.append(_alike(patient, "patient", other_patient))
        found.append(tuple(faults))
    return found


def _alike(name: str, kind: str, other: str) -> str:
    return (
        f"{shown(name)}: this {kind}'s name differs from {shown(other)} in capital letters or accents alone: rename "
        "one of them."
    )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

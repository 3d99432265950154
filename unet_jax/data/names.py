"""Names of cases, patients and files come from outside: which are usable, and how messages show them."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

# Control characters, line and paragraph separators, and bytes that are not text.
UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shown(name: PurePath | str) -> str:
    """The name on one line, with everything escaped that would break the line or the terminal."""
    return UNUSABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), str(name))


def name_faults(names: Sequence[tuple[str, str]]) -> list[tuple[str, ...]]:
    """What is wrong with the names of the cases of a data set, which become file names and rows of tables.

    Args:
        names: (case, patient) of each case.

    Returns:
        A tuple per case, with a line per fault: a name that cannot name a file, a name given twice, or names that
        differ only in capital letters or in how accents are encoded. On many disks those are one file, and two such
        patients are probably one person, who must not be on two sides of a split.
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

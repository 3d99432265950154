"""Whose picture is it, and which slice of which scan: told by a pattern for names, or by a CSV."""

import csv
import dataclasses
import re
from pathlib import Path

from unet_jax.data.faults import Fault, FaultsError, summary
from unet_jax.data.formats.table import Suffixes
from unet_jax.data.names import shown
from unet_jax.errors import InputError

_SUFFIXES = Suffixes("picture", "volume")


def without_suffix(name: str) -> str:
    """A file's name without the suffix of a format: of x.nii.gz it is x."""
    found = [suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)]
    return name.removesuffix(name[-len(max(found, key=len)) :]) if found else name


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a picture belongs.

    Attributes:
        patient: whose it is.
        scan: pictures with the same patient and scan are the slices of one volume.
        number: of the slice, or None where the picture stands alone.
    """

    patient: str
    scan: str
    number: int | None = None


@dataclasses.dataclass(frozen=True)
class Patients:
    """How names are told apart; with neither a pattern nor a table, each name is a patient of its own.

    Attributes:
        pattern: a regular expression that names match in full, with the group `patient`, and `slice` where pictures are
            slices of volumes. What is left of a name without the slice's number tells a patient's scans apart.
        table: name → place, as the CSV has it.
        csv: the CSV's path, for messages.
    """

    pattern: str | None = None
    table: dict[str, Place] | None = None
    csv: str = ""

    def place(self, name: str) -> Place:
        """Where the picture of this name belongs; names are paths without suffix, such as "anna/3".

        Raises:
            InputError: the pattern does not match, or the table does not have the name.
        """
        if self.table is not None:
            if name not in self.table:
                raise FaultsError([Fault(name, f"config.data.patient_csv={self.csv} {self._lacks(name)}.")])
            return self.table[name]
        if self.pattern is None:
            return Place(name, name)
        found = re.fullmatch(self.pattern, name)
        if found is None or not found["patient"]:
            where = f"config.data.patient_pattern={self.pattern!r}"
            mistake = f"{where} does not match this name: mend the pattern or rename the file."
            raise FaultsError([Fault(name, mistake, "patient_pattern")])
        if found.groupdict().get("slice") is None:
            return Place(found["patient"], name)
        start, end = found.span("slice")
        return Place(found["patient"], name[:start] + name[end:], int(found["slice"]))

    def _lacks(self, name: str) -> str:
        last = name.rpartition("/")[2].casefold()
        near = next((other for other in self.table or {} if other.rpartition("/")[2].casefold() == last), None)
        if near is None:
            return "has no line for this file: add one"
        return f"has no line for this file, and one for {shown(near)}: write the name as it stands here"

    def describe(self) -> str:
        """Text that changes whenever the same names would be grouped otherwise."""
        return repr((self.pattern, sorted(map(repr, (self.table or {}).items()))))


def load(pattern: str | None, path: Path | None) -> Patients:
    """What `config.data.patient_pattern` and `config.data.patient_csv` say.

    Raises:
        InputError: both are given, the pattern is none or lacks its group, or the CSV cannot be used; all its faulty
            lines are listed.
    """
    if pattern is not None and path is not None:
        raise InputError("config.data: patient_pattern and patient_csv are both set: set one to None.")
    if path is not None:
        return Patients(table=_read_csv(path), csv=str(path))
    if pattern is not None:
        _check_pattern(pattern)
    return Patients(pattern)


def _check_pattern(pattern: str) -> None:
    where = f"config.data.patient_pattern={pattern!r}"
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise InputError(f"{where}: is not a regular expression ({error}).") from error
    if "patient" not in groups:
        raise InputError(f"{where}: it needs a group for the patient, such as '(?P<patient>[^_]+)_(?P<slice>[0-9]+)'.")


def _read_csv(path: Path) -> dict[str, Place]:
    where = f"config.data.patient_csv={path}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{where}: cannot be read ({error}): name a CSV with the columns file, patient, slice."
        ) from error
    if not lines or not {"file", "patient"} <= lines[0].keys():
        raise InputError(f"{where}: its first line must name the columns file and patient, and slice if there are any.")
    table, faults = {}, []
    for number, line in enumerate(lines, 2):
        # A file may be named with its suffix or without; a dot elsewhere in its name is part of it.
        name = without_suffix(line["file"] or "")
        patient, digits = (line["patient"] or "").strip(), (line.get("slice") or "").strip()
        if not name or not patient or name in table or not re.fullmatch("[0-9]*", digits):
            mistake = "needs a new file, a patient and, if any, a whole number as slice."
            faults.append(Fault(f"{path}, line {number}", mistake))
            continue
        table[name] = Place(patient, patient if digits else name, int(digits) if digits else None)
    if faults:
        raise InputError(summary(faults))
    return table

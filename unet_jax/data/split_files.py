"""A split in a file of the user's: a CSV, a run's split.json, or nnU-Net's splits_final.json."""

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, summary
from unet_jax.data.names import shown
from unet_jax.data.patients import without_suffix
from unet_jax.data.reader import CaseFiles
from unet_jax.data.sides import side_named
from unet_jax.data.splits import SIDES, names_of
from unet_jax.errors import InputError
from unet_jax.wording import count

KEY = "config.data.split_file"
# What the rows of a CSV may name; of several columns, the first here counts.
COLUMNS = ("case", "file", "patient")

# Names of cases by side.
Sides = Mapping[str, Sequence[str]]


@dataclasses.dataclass(frozen=True)
class _Row:
    """A line of a split file: that the cases of this name are on this side."""

    column: str
    name: str
    side: str


def read(path: Path, cases: Sequence[Case], listing: Sequence[CaseFiles], *, fold: int = 0, folds: int = 0) -> Sides:
    """The names of cases by side, as a file has them; a side may be empty.

    Args:
        path: a CSV with the columns side and one of `COLUMNS`; or JSON: a run's split.json, or a list of folds as
            nnU-Net writes it, each with the names of cases under "train" and "val".
        cases: the data's.
        listing: their files, in the same order.
        fold: which of a list of folds is taken.
        folds: how many there must be; 0 for any number, or for no list.

    Raises:
        InputError: the file cannot be read, or does not put every case and every patient of the data on one side; all
            disagreements are listed.
    """
    where = f"{KEY}={path}"
    if path.suffix.lower() == ".csv":
        content, rows = None, _read_csv(path, where)
    else:
        content = _read_json(path, where)
        rows = _rows(content, where, fold, folds)
    if folds and not isinstance(content, list):
        raise InputError(f"{where}: is one split, and config.data.folds={folds} asks for folds: set it to 0.")
    return _placed(rows, cases, listing, where)


def _read_csv(path: Path, where: str) -> list[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.DictReader(file) if any(value for value in line.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{where}: cannot be read ({error}): name a CSV with the columns case and side.") from error
    column = next((column for column in COLUMNS if lines and column in lines[0]), None)
    if column is None or "side" not in lines[0]:
        raise InputError(f"{where}: its first line must name the columns side and one of {', '.join(COLUMNS)}.")
    rows, faults = [], []
    for number, line in enumerate(lines, 2):
        name, side = (line[column] or "").strip(), side_named(line["side"] or "")
        if not name or side is None:
            faults.append(Fault(f"{path}, line {number}", f"needs a {column} and a side: train, val or test."))
        else:
            rows.append(_Row(column, name, side))
    if faults:
        raise InputError(summary(faults))
    return rows


def _read_json(path: Path, where: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: cannot be read ({error}): name a CSV, or JSON.") from error


def _rows(content: Any, where: str, fold: int, folds: int) -> list[_Row]:
    """The rows of a split.json, or of one fold of a list of folds."""
    if isinstance(content, list):
        if folds not in (0, len(content)) or not 0 <= fold < len(content):
            raise InputError(
                f"{where}: has {count(len(content), 'fold')}, and config.data.fold={fold} of folds={folds} is asked "
                f"for: set fold from 0 to {len(content) - 1}, and folds to {len(content)} or 0."
            )
        content = content[fold]
    if isinstance(content, dict) and content.get("split_by", "patient") != "patient":
        raise InputError(f"{where}: is a split by {content['split_by']}, and one by patient is needed.")
    try:
        sides = {side: content.get(side, []) for side in SIDES}
        return [
            _Row("case", str(name), side)
            for side, group in sides.items()
            for name in ([case for named in group.values() for case in named] if isinstance(group, dict) else group)
        ]
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"{where}: is not a split ({error!r}): it must be a CSV, a split.json, or nnU-Net's splits_final.json."
        ) from error


def _placed(rows: Sequence[_Row], cases: Sequence[Case], listing: Sequence[CaseFiles], where: str) -> Sides:
    """Names of cases by side.

    Raises:
        InputError: the rows do not put each case and each patient on one side; all disagreements are listed.
    """
    known = _known(cases, listing)
    sides_of: dict[str, set[str]] = {case.name: set() for case in cases}
    unknown = []
    for row in rows:
        names = known[row.column].get(row.name) or known[row.column].get(without_suffix(row.name).removeprefix("./"))
        if names is None:
            unknown.append(row.name)
        for name in names or ():
            sides_of[name].add(row.side)
    twice = [f"{name} ({', '.join(sorted(sides))})" for name, sides in sides_of.items() if len(sides) > 1]
    of_patient: dict[str, set[str]] = {}
    for case in cases:
        of_patient.setdefault(case.patient, set()).update(sides_of[case.name])
    shared = [f"{patient} ({', '.join(sorted(sides))})" for patient, sides in of_patient.items() if len(sides) > 1]
    column = rows[0].column if rows else "case"
    faults = [
        f"{where}: {complaint}: {names_of(names)}."
        for complaint, names in (
            (f"these {column}s of it are not in the data", unknown),
            ("these cases of the data are not in it", [name for name, sides in sides_of.items() if not sides]),
            ("these cases are on two sides", twice),
            ("these patients are on two sides", [] if twice else shared),
        )
        if names
    ]
    if faults:
        raise InputError("\n".join([*faults, *_near(unknown, known[column])]))
    return {side: [name for name, sides in sides_of.items() if side in sides] for side in SIDES}


def _known(cases: Sequence[Case], listing: Sequence[CaseFiles]) -> dict[str, dict[str, list[str]]]:
    """By column, the names of cases that a name stands for."""
    known: dict[str, dict[str, list[str]]] = {column: {} for column in COLUMNS}
    for case, files_of_case in zip(cases, listing, strict=True):
        known["case"][case.name] = [case.name]
        known["patient"].setdefault(case.patient, []).append(case.name)
        for path in (*files_of_case.images, *files_of_case.masks):
            for name in (path.as_posix(), without_suffix(path.as_posix())):
                known["file"][name] = [case.name]
    return known


def _near(unknown: Sequence[str], known: Mapping[str, list[str]]) -> list[str]:
    """A line with the first of these names that there is in other letters or another folder."""
    by_last = {name.rpartition("/")[2].casefold(): name for name in known}
    for name in unknown:
        near = by_last.get(without_suffix(name).rpartition("/")[2].casefold())
        if near is not None:
            return [f"{KEY}: is {shown(name)} meant to be {shown(near)}? Write names as they are in the data."]
    return []

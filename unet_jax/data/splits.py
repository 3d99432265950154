"""Cases to train, val and test: by patient, in folds of patients, or by slice as the tutorial did."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int32

from unet_jax import files
from unet_jax.data import draws, labels
from unet_jax.data.case import Case
from unet_jax.data.names import shown
from unet_jax.errors import InputError

SIDES = ("train", "val", "test")
# A message names so many patients or cases and counts the others.
NAMED = 20


@dataclasses.dataclass(frozen=True)
class Split:
    """Who trains, who chooses the checkpoint and who is scored.

    Attributes:
        split_by: "patient", or "slice", which puts slices of one patient on several sides.
        train: patient → names of the cases, or, by slice, name of the case → slices, counted from 0.
        val: as train.
        test: as train.
        unit: what counts as a patient: "patient" where somebody named them, else "picture" or "case": see
            `sources.unit`. It is not written, as the data's settings tell it.

    Raises:
        InputError: a side is empty, or a patient (by slice: a slice) is on two sides; all are named.
    """

    split_by: str
    train: dict[str, list]
    val: dict[str, list]
    test: dict[str, list]
    unit: str = "patient"

    def __post_init__(self):
        if self.split_by not in ("patient", "slice"):
            raise InputError(f"config.data.split_by={self.split_by!r}: it must be 'patient' or 'slice'.")
        faults = [f"{side}: this side of the split is empty." for side in SIDES if not getattr(self, side)]
        unit = "slice" if self.split_by == "slice" else self.unit
        for one, other in itertools.combinations(SIDES, 2):
            shared = self._members(one) & self._members(other)
            if shared:
                faults.append(f"{one} and {other} share {names_of(shared)}: put each {unit} on one side only.")
        if faults:
            raise InputError("\n".join(faults))

    @property
    def label(self) -> str:
        """What a report must say of the split beside any score."""
        if self.split_by == "patient":
            return f"by {self.unit}"
        return "leaky: slices of one patient stand on several sides"

    def _members(self, side: str) -> set:
        groups = getattr(self, side)
        if self.split_by == "patient":
            return set(groups)
        return {f"{case} slice {number}" for case, numbers in groups.items() for number in numbers}


def make(
    cases: Sequence[Case],
    *,
    split_by: str = "patient",
    seed: int = 0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.15,
    fold: int = 0,
    folds: int = 0,
    unit: str = "patient",
) -> Split:
    """Draws a split, the same one each time for the same cases and arguments.

    Validation is `val_fraction` of all and test `test_fraction` of the rest, rounded up, as in the tutorial.
    With `folds`, test is fold number `fold` instead and validation `val_fraction` of the rest; over all
    values of `fold`, every patient is tested exactly once.

    Every draw is stratified. Nearly every patient has a tumour, so having one or not would separate nobody:
    patients are ordered by the share of their voxels that is tumour, cut into as many blocks of neighbours as
    are to be drawn, and one is drawn from each. Every side thus gets its share of small and of large tumours.
    Slices are ordered by whether they show tumour, and drawn the same way. For folds, each run of `folds`
    neighbours is dealt out, one to a fold.

    Args:
        cases: all with masks.
        split_by: "patient", or "slice" (leaky; no folds).
        seed: of the draw.
        val_fraction: between 0 and 1, both excluded.
        test_fraction: between 0 and 1, both excluded; of no effect with folds.
        fold: from 0 to folds - 1.
        folds: 0 for none, else at least 2.
        unit: see `Split`.

    Raises:
        InputError: an argument is out of range, a mask is missing, or there are too few patients.
    """
    _check_arguments(split_by, val_fraction, test_fraction, fold, folds)
    without = [case.name for case in cases if case.mask is None]
    if without:
        raise InputError(f"{names_of(without)}: these cases have no mask; leave them out of training and scoring.")
    units = _units(cases, split_by)
    drawn = "slice" if split_by == "slice" else unit
    _check_enough(len(units), drawn, val_fraction, test_fraction, folds)
    measure = tumour_shares(cases) if split_by == "patient" else _shows_tumour(cases)

    rng = np.random.default_rng(seed)
    everyone = np.arange(len(units))
    if folds:
        test = everyone[draws.deal(measure, folds, rng) == fold]
        rest = np.setdiff1d(everyone, test)
        val = rest[draws.draw(measure[rest], draws.count(val_fraction, len(rest)), rng)]
    else:
        val = everyone[draws.draw(measure, draws.count(val_fraction, len(units)), rng)]
        rest = np.setdiff1d(everyone, val)
        test = rest[draws.draw(measure[rest], draws.count(test_fraction, len(rest)), rng)]
    train = np.setdiff1d(everyone, np.concatenate([val, test]))
    sides = (grouped(pair for position in side.tolist() for pair in units[position]) for side in (train, val, test))
    return Split(split_by, *sides, unit)


def write(split: Split, path: Path) -> None:
    """Writes a split as JSON; a reader sees the old file or the new one, never half of one."""
    files.write_sealed_json(path, _contents(split))


def digest(split: Split) -> str:
    """What tells a split from any other, in hexadecimal."""
    return files.json_digest(_contents(split))


def _contents(split: Split) -> dict[str, Any]:
    return {"split_by": split.split_by} | {side: getattr(split, side) for side in SIDES}


def read(path: Path, cases: Sequence[Case], unit: str = "patient") -> Split:
    """Reads a split and checks that it places exactly the cases at hand.

    Raises:
        InputError: the file cannot be read as a split, a patient (by slice: a slice) stands on two sides, or
            split and data do not hold the same patients, cases and slices; all are listed.
    """
    content = files.read_json(path)
    try:
        if unknown := content.keys() - {"split_by", *SIDES}:
            raise KeyError(*sorted(unknown))
        split = Split(content["split_by"], *({**content[side]} for side in SIDES), unit)
        placed = grouped(
            (key, member) for side in SIDES for key, members in content[side].items() for member in members
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not a split ({error!r}): restore or delete it.") from error
    except InputError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error

    at_hand = grouped(pair for unit in _units(cases, split.split_by) for pair in unit)
    differing = {name for name in placed.keys() & at_hand.keys() if placed[name] != at_hand[name]}
    what = f"{unit}s" if split.split_by == "patient" else "cases"
    faults = [
        f"{path}: {complaint}: {names_of(names)}."
        for complaint, names in (
            (f"these {what} of the split are not in the data", placed.keys() - at_hand.keys()),
            (f"these {what} of the data are not in the split", at_hand.keys() - placed.keys()),
            (f"the split lists other scans or slices than the data for these {what}", differing),
        )
        if names
    ]
    if faults:
        raise InputError("\n".join([*faults, f"{path}: give the data it was made for, or train in a new workdir."]))
    return split


def slices_of(split: Split, cases: Sequence[Case], side: str) -> Int32[np.ndarray, "n 2"]:
    """Slices of one side (train, val or test) as (position in cases, slice), in the order of the cases."""
    by_slice = split.split_by == "slice"
    groups = {group: members if by_slice else set(members) for group, members in getattr(split, side).items()}
    found = []
    for position, case in enumerate(cases):
        if by_slice:
            numbers = sorted(groups.get(case.name, ()))
        else:
            numbers = range(len(case.image)) if case.name in groups.get(case.patient, ()) else ()
        found += [(position, number) for number in numbers]
    return np.array(found, np.int32).reshape(-1, 2)


def _units(cases: Sequence[Case], split_by: str) -> list[list[tuple]]:
    """What is drawn as a whole: the cases of a patient, or one slice; each a list of (group, member)."""
    if split_by == "slice":
        return [[(case.name, number)] for case in cases for number in range(len(case.image))]
    scans = {}
    for case in cases:
        scans.setdefault(case.patient, []).append((case.patient, case.name))
    return list(scans.values())


def grouped(pairs: Iterable[tuple]) -> dict[str, list]:
    """Members by their group, sorted."""
    groups = {}
    for group, member in pairs:
        groups.setdefault(group, []).append(member)
    return {group: sorted(members) for group, members in groups.items()}


def tumour_shares(cases: Sequence[Case]) -> Float64[np.ndarray, " patients"]:
    """The share of each patient's voxels that is tumour, in the order in which the cases name patients."""
    tumour, voxels = Counter(), Counter()
    for case in cases:
        tumour[case.patient] += np.count_nonzero(labels.without_ignored(case.mask))
        voxels[case.patient] += case.mask.size
    return np.array([tumour[patient] / voxels[patient] for patient in tumour])


def _shows_tumour(cases: Sequence[Case]) -> Bool[np.ndarray, " slices"]:
    return np.concatenate([labels.without_ignored(case.mask).any(axis=(1, 2)) for case in cases])


def _check_enough(found: int, unit: str, val_fraction: float, test_fraction: float, folds: int) -> None:
    if draws.left_to_train(found, val_fraction, test_fraction, folds) < 1:
        needed = next(n for n in itertools.count(1) if draws.left_to_train(n, val_fraction, test_fraction, folds) > 0)
        test = f"folds={folds}" if folds else f"test_fraction={test_fraction}"
        raise InputError(
            f"config.data.val_fraction={val_fraction} and {test} need at least {needed} {unit}s, and the "
            f"data hold {found}: add cases, or lower the fractions or folds."
        )


def _check_arguments(split_by: str, val_fraction: float, test_fraction: float, fold: int, folds: int) -> None:
    faults = [
        f"config.data.{name}={fraction}: it must lie between 0 and 1, both excluded."
        for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction))
        if not 0 < fraction < 1
    ]
    if split_by not in ("patient", "slice"):
        faults.append(f"config.data.split_by={split_by!r}: it must be 'patient', 'nnunet' or 'slice'.")
    if folds < 0 or folds == 1:
        faults.append(f"config.data.folds={folds}: it must be 0 for a single split, or 2 or more.")
    elif folds and not 0 <= fold < folds:
        faults.append(f"config.data.fold={fold}: it must be from 0 to {folds - 1} with folds={folds}.")
    if folds and split_by == "slice":
        faults.append("config.data.folds: folds are of patients; set config.data.split_by='patient' or folds=0.")
    if faults:
        raise InputError("\n".join(faults))


def names_of(names: Iterable[str]) -> str:
    """Names in a row, in order, the first of them if there are many."""
    ordered = [shown(name) for name in sorted(names)]
    more = f" and {len(ordered) - NAMED:,} more" if len(ordered) > NAMED else ""
    return ", ".join(ordered[:NAMED]) + more

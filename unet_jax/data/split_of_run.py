"""The split of a run: one that comes with the data, in a file or as folders train, val and test; else one is drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.data import draws, nnunet_folds, split_files, splits
from unet_jax.data.case import Case
from unet_jax.data.reader import CaseFiles
from unet_jax.data.sides import side_named
from unet_jax.data.split_files import KEY, Sides
from unet_jax.data.splits import SIDES, Split, names_of
from unet_jax.errors import InputError

# Of config.data.split_by.
NNUNET = "nnunet"


def choose(
    path: Path, data: Mapping[str, Any], seed: int, cases: Sequence[Case], listing: Sequence[CaseFiles], unit: str
) -> tuple[Split, list[str]]:
    """The split of a run: the one it has, or the one that comes with the data, or one that is drawn.

    Args:
        path: the run's split.json, which may be missing.
        data: the keys of `config.data`.
        seed: config.seed, of which split_seed takes the place.
        cases: with masks.
        listing: their files, in the same order.
        unit: see `Split`.

    Returns:
        the split, and what the user should be told of it.

    Raises:
        InputError: a split cannot be read or used, or does not agree with the data, all its disagreements being listed;
            or the split file has changed since the run began.
    """
    seed = seed if data["split_seed"] is None else data["split_seed"]
    given = data.get("split_file")
    if path.exists() and not given:
        return splits.read(path, cases, unit), []
    if given:
        split, notes = _from_file(Path(given), data, seed, cases, listing, unit)
    elif data["split_by"] == NNUNET:
        return _nnunets(data, seed, cases, unit)
    else:
        sides, notes = _from_folders(data, cases, listing)
        if sides is None:
            keys = ("split_by", "val_fraction", "test_fraction", "fold", "folds")
            split = splits.make(cases, **{key: data[key] for key in keys}, seed=seed, unit=unit)
            return split, notes + _not_nnunets(split, data, cases)
        split, more = _completed(sides, cases, data["val_fraction"], seed, unit, "the folders")
        notes += more
    if not path.exists():
        return split, notes
    there = splits.read(path, cases, unit)
    if there != split:
        raise InputError(
            f"{path}: is another split than {KEY}={given} gives now: restore that file, or train in a new workdir."
        )
    return there, []


def _nnunets(data: Mapping[str, Any], seed: int, cases: Sequence[Case], unit: str) -> tuple[Split, list[str]]:
    """A fold of nnU-Net's own; what it validates is scored here, and a validation side is drawn from the rest."""
    asked, folds = f"config.data.split_by={NNUNET!r}", nnunet_folds.FOLDS
    if data["folds"] != folds or not 0 <= data["fold"] < folds:
        raise InputError(
            f"{asked} draws {folds} folds, and config.data.fold={data['fold']} of folds={data['folds']} is asked for: "
            f"set folds to {folds}, and fold from 0 to {folds - 1}."
        )
    parts = nnunet_folds.folds_of([case.name for case in cases])
    fold_of = {name: number for number, part in enumerate(parts) for name in part}
    of_patient: dict[str, set[int]] = {}
    for case in cases:
        of_patient.setdefault(case.patient, set()).add(fold_of[case.name])
    parted = [patient for patient, numbers in of_patient.items() if len(numbers) > 1]
    if parted:
        raise InputError(
            f"{asked}: nnU-Net's folds part the cases of these {unit}s: {names_of(parted)}: make it 'patient', or "
            "leave config.data.patient_pattern and patient_csv out to have them as nnU-Net has."
        )
    sides = {
        "train": [name for name, number in fold_of.items() if number != data["fold"]],
        "test": parts[data["fold"]],
    }
    split, notes = _completed(sides, cases, data["val_fraction"], seed, unit, asked)
    return split, [f"The split is nnU-Net's own fold {data['fold']}.", *notes]


def _not_nnunets(split: Split, data: Mapping[str, Any], cases: Sequence[Case]) -> list[str]:
    """What who compares folds with nnU-Net's should be told."""
    if data["source"] != "nifti" or data["folds"] != nnunet_folds.FOLDS:
        return []
    ours = {name for names in split.test.values() for name in names}
    if ours == set(nnunet_folds.folds_of([case.name for case in cases])[data["fold"]]):
        return []
    return [
        f"Fold {data['fold']} is drawn {split.label} and is not nnU-Net's own, which config.data.split_by={NNUNET!r} "
        "takes."
    ]


def _from_file(
    path: Path,
    data: Mapping[str, Any],
    seed: int,
    cases: Sequence[Case],
    listing: Sequence[CaseFiles],
    unit: str,
) -> tuple[Split, list[str]]:
    if data["split_by"] != "patient":
        drawn = "nnU-Net's folds" if data["split_by"] == NNUNET else "slices"
        asked = f"config.data.split_by is {data['split_by']!r}, which draws {drawn}"
        raise InputError(f"{KEY}={path}: {asked}: set it to 'patient', or split_file to None.")
    sides = split_files.read(path, cases, listing, fold=data["fold"], folds=data["folds"])
    split, notes = _completed(sides, cases, data["val_fraction"], seed, unit, f"{KEY}={path}")
    return split, [f"The split is that of {path}.", *notes]


def _from_folders(
    data: Mapping[str, Any], cases: Sequence[Case], listing: Sequence[CaseFiles]
) -> tuple[Sides | None, list[str]]:
    """Names of cases by side, where all their files lie in folders called like sides; and what to say of it."""
    folders = {case.name: _top_folders(files) for case, files in zip(cases, listing, strict=True)}
    found: dict[str, list[str]] = {}
    for name, tops in folders.items():
        for side in {side_named(top) for top in tops} - {None}:
            found.setdefault(side, []).append(name)
    if "train" not in found or len(found) < 2:
        return None, []
    tops = {top for tops in folders.values() for top in tops if side_named(top)}
    called = sorted(tops, key=lambda top: SIDES.index(side_named(top)))
    unused = f"The folders {', '.join(called)} are not used as the split"
    if data["split_by"] != "patient":
        return None, [f"{unused}: config.data.split_by={data['split_by']!r} draws slices."]
    if data["folds"]:
        return None, [f"{unused}: config.data.folds={data['folds']} draws folds from all cases."]
    elsewhere = [name for name, tops in folders.items() if not any(map(side_named, tops))]
    if elsewhere:
        return None, [f"{unused}, which is drawn: other cases lie elsewhere ({names_of(elsewhere)})."]
    across = [f"{name} ({', '.join(sorted(tops))})" for name, tops in folders.items() if len(tops) > 1]
    if across:
        raise InputError(f"The files of these cases lie in folders of several sides: {names_of(across)}: part them.")
    return found, [f"The split is that of the folders {', '.join(called)}."]


def _top_folders(files: CaseFiles) -> set[str]:
    """The folders in the root that a case's files lie in; "" stands for the root itself."""
    return {path.parts[0] if len(path.parts) > 1 else "" for path in files.images}


def _completed(
    sides: Sides, cases: Sequence[Case], val_fraction: float, seed: int, unit: str, where: str
) -> tuple[Split, list[str]]:
    """A split of three sides: what is held out is tested, and a missing validation side is drawn from the training.

    As with folds, no case that is scored has then chosen the checkpoint.
    """
    placed = {side: set(sides.get(side, ())) for side in SIDES}
    notes = []
    if placed["val"] and not placed["test"]:
        placed["test"], placed["val"] = placed["val"], set()
        notes.append("It has no test side, so its val side is scored as the test side.")
    if placed["train"] and placed["test"] and not placed["val"]:
        chosen = _drawn([case for case in cases if case.name in placed["train"]], val_fraction, seed, unit)
        notes.append(f"It has no validation side left, so {len(chosen)} of its training cases validate.")
        placed["val"] = chosen
        placed["train"] -= chosen
    try:
        groups = (
            splits.grouped((case.patient, case.name) for case in cases if case.name in placed[side]) for side in SIDES
        )
        return Split("patient", *groups, unit), notes
    except InputError as error:
        raise InputError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from error


def _drawn(training: Sequence[Case], val_fraction: float, seed: int, unit: str) -> set[str]:
    """The cases of a share of the patients, with its share of small and of large tumours."""
    patients = list(dict.fromkeys(case.patient for case in training))
    number = draws.count(val_fraction, len(patients))
    if not 0 < number < len(patients):
        raise InputError(
            f"config.data.val_fraction={val_fraction} of {len(patients)} {unit}s to train on leaves none to validate, "
            "or none to train: add a validation side, or change it."
        )
    positions = draws.draw(splits.tumour_shares(training), number, np.random.default_rng(seed)).tolist()
    chosen = {patients[position] for position in positions}
    return {case.name for case in training if case.patient in chosen}

"""Trains and scores every fold of a recipe, and pools their patients: each is scored by a network that never saw it."""

import functools
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.crossval import choices, folds, page, pooled, side_by_side
from unet_jax.crossval import pictures as fold_pictures
from unet_jax.data import load
from unet_jax.errors import InputError
from unet_jax.files import read_json, write_json
from unet_jax.metrics.cases import Row
from unet_jax.metrics.summary import dice_by_patient
from unet_jax.report import curves, scores
from unet_jax.run import folder as run_folder
from unet_jax.run import resume
from unet_jax.run.config import as_json, default_config, flatten, read_config
from unet_jax.runtime import exchange
from unet_jax.training.train import train

# Where the config does not say.
FOLDS = 5
RESULTS, CASES = "crossval.json", "cases.png"
PAGE, BESIDE = "crossval.html", "against.html"


def crossval(
    config: ConfigDict | None,
    workdir: Path,
    *,
    fold: int | None = None,
    against: Path | None = None,
) -> dict:
    """Trains the folds that are not yet trained and scored, then pools all that are.

    Fold k is an ordinary run in `<workdir>/fold<k>` with config.data.fold = k: it resumes as runs do, can be scored or
    predicted with on its own, and may have been trained by a command of its own.

    Args:
        config: resolved, with every key; folds is FOLDS where it is 0. None trains nothing and pools what is there.
        workdir: the cross-validation's folder.
        fold: trains this fold alone.
        against: the folder of another cross-validation of the same patients, to be compared with.

    Returns:
        what crossval.json holds: see `pooled.pool` and, with `against`, `pooled.compare`.

    Raises:
        RunError: as `train` raises it; the folds before are kept, and the same command resumes.
        InputError: a fold is of another config or other data, there is none, or `against` has other patients.
    """
    if config is not None:
        _train_folds(config, workdir, fold)
    # Folds that end together, in processes of their own, are pooled one after the other.
    with run_folder.lock_run(workdir, wait=True):
        return exchange.done_by_primary(functools.partial(_pool, workdir, against))


def _pool(workdir: Path, against: Path | None) -> dict:
    """Pools the folds that are there, for a caller that holds the lock."""
    found = folds.read(workdir)
    chosen = None
    if len(found) > 1 and (recipe := read_config(found[0].folder)).eval.choose:
        chosen = choices.choose(found, recipe)
        found = folds.read(workdir)
    results, rows = pooled.pool(found)
    if chosen is not None:
        results["chosen"] = chosen
    if against is not None:
        theirs = _read_results(against)
        comparison = pooled.compare(results["dice_by_patient"], theirs["dice_by_patient"])
        results["against"] = {"workdir": str(against)} | comparison
    results["recipe"] = _recipe(found[0])
    print(f"{workdir}: cross-validation\n{pooled.table(results)}", flush=True)
    # Networks must be loaded for these, so they are made again only where the scores are new.
    if not (workdir / CASES).exists() or _scored_before(workdir) != results["dice_by_patient"]:
        fold_pictures.write(workdir / CASES, found, rows)
    dice = {one.number: [value for value in dice_by_patient(one.rows).values() if value is not None] for one in found}
    curves.write_dice_by_fold(workdir / "folds.png", dice)
    curves.write_folds(workdir / "curves.png", [one.epochs for one in found])
    scores.write_rows(workdir / "cases.csv", rows)
    _write_pages(workdir, results, rows, against)
    write_json(workdir / RESULTS, results)
    print(f"  written to {workdir}: {RESULTS}, {PAGE}, cases.csv, {CASES}, folds.png, curves.png", flush=True)
    return results


def _write_pages(workdir: Path, results: dict, rows: list[Row], against: Path | None) -> None:
    """The page of the cross-validation, and that of the comparison; an older comparison does not stay beside it."""
    if against is None:
        (workdir / BESIDE).unlink(missing_ok=True)
    else:
        side_by_side.write(workdir / BESIDE, results["against"], rows, against, folds.read_rows(against / "cases.csv"))
    page.write(workdir / PAGE, results, rows, BESIDE if against is not None else "")


def _train_folds(config: ConfigDict, workdir: Path, fold: int | None) -> None:
    choices.check(config)
    count = config.data.folds or FOLDS
    if fold is not None and not 0 <= fold < count:
        raise InputError(f"--fold is {fold}; it must be from 0 to {count - 1}, as config.data.folds is {count}.")
    if classes := load.load_classes(config):
        raise InputError(
            f"--mode=crossval pools one class, and the masks tell {', '.join(classes)} apart: merge or choose values "
            "with config.data.labels, or train folds by themselves with config.data.folds and config.data.fold."
        )
    numbers = range(count) if fold is None else [fold]
    for number in numbers:
        recipe = config.copy_and_resolve_references()
        with recipe.unlocked():
            recipe.data.update(folds=count, fold=number)
        folder = folds.folder_of(workdir, number)
        if folds.is_scored(folder):
            # Else a fold of another recipe would be pooled.
            resume.compare(folder, recipe, load.load(recipe))
        else:
            train(recipe, folder)


def _scored_before(workdir: Path) -> dict | None:
    """The Dice by patient that the folder holds already."""
    return read_json(workdir / RESULTS).get("dice_by_patient") if (workdir / RESULTS).exists() else None


def _read_results(workdir: Path) -> dict:
    if not (workdir / RESULTS).exists():
        raise InputError(f"--against={workdir} has no {RESULTS}: make it with --mode=crossval --workdir={workdir}.")
    return read_json(workdir / RESULTS)


def _recipe(fold: folds.Fold) -> dict:
    """The keys in which the folds differ from the program's own config, but for those of where things lie.

    None stands for a key that the folds lack.
    """
    known = flatten(as_json(default_config().to_dict()))
    return {
        key: fold.config.get(key)
        for key in sorted(known.keys() | fold.config.keys())
        if known.get(key) != fold.config.get(key) and not _says_nothing(key)
    }


def _says_nothing(key: str) -> bool:
    """Whether a key is the same in all recipes, or different in all folds."""
    return key in ("data.fold", run_folder.FINGERPRINT) or key.startswith("scaled_down.") or resume.is_harmless(key)

"""What every fold is scored with, chosen on the test patients of the other folds.

A value that is chosen on the patients it is scored on flatters itself. Here a fold's own patients have no say: the mean
Dice over all others decides, each of them segmented by the network of its fold, which never saw it.
"""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from unet_jax import metrics
from unet_jax.crossval.folds import Fold
from unet_jax.data import labels, load, splits
from unet_jax.errors import InputError
from unet_jax.evaluation import threshold
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.files import read_json, write_sealed_json
from unet_jax.inference.network import load_network
from unet_jax.inference.settings import SegmentSettings
from unet_jax.metrics import lesions
from unet_jax.run import folder as run_folder
from unet_jax.run.config import read_config
from unet_jax.runtime import compilation_cache
from unet_jax.runtime.mesh import is_primary, prediction_mesh
from unet_jax.runtime.out_of_memory import explained

# What config.eval.choose may name, and the values that are tried: without it, the config's alone.
CANDIDATES = {"threshold": threshold.CANDIDATES, "minimum_voxels": (0, 50, 100, 200, 500, 1000, 2000)}
# No minimum is over this share of the smallest tumour on which is chosen: it might drop a new patient's whole tumour.
LARGEST_SHARE = 0.25
# Of a fold: the numbers behind a choice.
COUNTS = "candidates.json"

# Of each patient (true positive, false positive, false negative) voxels, by threshold and minimum.
Counts = dict[str, Int64[np.ndarray, "t m 3"]]


def check(config: ConfigDict) -> None:
    """Raises InputError unless config.eval.choose is something that can be chosen."""
    unknown = [name for name in config.eval.choose if name not in CANDIDATES]
    if unknown:
        raise InputError(
            f"config.eval.choose names {', '.join(map(repr, unknown))}; it may name {' and '.join(CANDIDATES)}."
        )
    if config.eval.choose and config.eval.choose_threshold:
        raise InputError(
            "config.eval.choose and config.eval.choose_threshold both choose: the first on the other folds' patients, "
            "the second on the validation side: leave one of them."
        )


def tried(config: ConfigDict) -> dict[str, tuple]:
    """The values that are tried of each candidate: its own list if it is to be chosen, else the config's value."""
    fixed = {"threshold": config.eval.threshold, "minimum_voxels": config.eval.postprocess.minimum_voxels}
    return {name: CANDIDATES[name] if name in config.eval.choose else (fixed[name],) for name in CANDIDATES}


def choose(found: Sequence[Fold], recipe: ConfigDict) -> dict:
    """Chooses for each fold, and scores those again that were scored with something else.

    Args:
        found: folds of one cross-validation, two at least.
        recipe: their config, as it was given: nothing in it is chosen.

    Returns:
        what all folds together choose, for patients that none of them has seen, as it is on disk: threshold,
        minimum_voxels, and `dice` on the patients that it was chosen on, which no new patient is promised.
    """
    values = tried(recipe)
    counts = {fold.number: _counts(fold, values) for fold in found}
    for fold in found:
        others = [one for number, one in counts.items() if number != fold.number]
        chosen = _best(others, values)
        scored = {name: fold.metrics.get(name) for name in values}
        if is_primary():
            write_sealed_json(fold.folder / run_folder.CHOSEN, chosen)
        if scored != {name: chosen[name] for name in values}:
            evaluate(fold.folder)
    together = _best(counts.values(), values)
    if is_primary():
        write_sealed_json(found[0].folder.parent / run_folder.CHOSEN, together)
    return together


def _counts(fold: Fold, values: Mapping[str, tuple]) -> Counts:
    """Of the fold's test patients: those on disk if they are of this network and these values, else counted again."""
    path = fold.folder / run_folder.EVALUATION / COUNTS
    made_of = {
        "checkpoint_step": fold.metrics["checkpoint_step"],
        "tta": fold.metrics["tta"],
        "tiles": fold.metrics["tiles"],
        **{name: list(of_name) for name, of_name in values.items()},
    }
    if path.exists():
        there = read_json(path)
        if there.get("made_of") == made_of:
            return {patient: np.array(of_patient, np.int64) for patient, of_patient in there["counts"].items()}
    counts = _count_fold(fold, values)
    if is_primary():
        of_patients = {patient: of_patient.tolist() for patient, of_patient in sorted(counts.items())}
        write_sealed_json(path, {"made_of": made_of, "counts": of_patients})
    return counts


def _count_fold(fold: Fold, values: Mapping[str, tuple]) -> Counts:
    """The fold's test patients, segmented by its network."""
    config = read_config(fold.folder, flips=fold.metrics["tta"], tiles=fold.metrics["tiles"])
    with explained(config):
        compilation_cache.use(config.train.compilation_cache)
        data, mesh = load.load(config), prediction_mesh(config.train.spatial)
        split = splits.read(fold.folder / run_folder.SPLIT, data.cases, data.unit)
        index = splits.slices_of(split, data.cases, "test")
        network, _ = load_network(fold.folder, config, mesh)
        settings = SegmentSettings.of_run(fold.folder, config, mesh)
        found = threshold.segmented(network, data.cases, index, settings)
        counts: Counts = {}
        total = len(np.unique(index[:, 0]))
        for one in tqdm(found, f"choosing, fold {fold.number}", total, unit="case", disable=None, leave=False):
            case = one.wanted.case
            of_case = count(one.probability, np.asarray(case.mask)[one.wanted.slices], **values)
            counts[case.patient] = counts.get(case.patient, 0) + of_case
    return counts


def count(
    probability: Float32[np.ndarray, "d h w"],
    truth: UInt8[np.ndarray, "d h w"],
    threshold: Sequence[float],
    minimum_voxels: Sequence[int],
) -> Int64[np.ndarray, "t m 3"]:
    """(True positive, false positive, false negative) voxels of a case at every threshold and minimum size of parts.

    Parts are those of `postprocess.remove_small`, and are found once a threshold: of each, its size and its overlap
    with the truth say what dropping it changes.

    Args:
        probability: of the class.
        truth: 0 and 1, or `labels.IGNORED`.
        threshold: a voxel is of the class from this probability on.
        minimum_voxels: smaller parts are dropped.
    """
    marked, counted = labels.without_ignored(truth) > 0, truth != labels.IGNORED
    result = np.zeros((len(threshold), len(minimum_voxels), 3), np.int64)
    for row, limit in enumerate(threshold):
        parts, number = lesions.label((probability >= limit).astype(np.uint8))
        size, inside, hit = (
            np.bincount(parts[where].ravel(), minlength=number + 1)[1:] for where in (..., counted, marked)
        )
        for column, minimum in enumerate(minimum_voxels):
            kept = size >= minimum
            true_positive = hit[kept].sum()
            false_positive = inside[kept].sum() - true_positive
            result[row, column] = true_positive, false_positive, marked.sum() - true_positive
    return result


def _best(counts: Iterable[Counts], values: Mapping[str, tuple]) -> dict:
    """The values of the highest mean Dice per patient; of equal ones the nearest to 0.5, and the smallest minimum.

    No minimum is over LARGEST_SHARE of the smallest tumour of these patients.
    """
    patients = [of_patient for fold in counts for of_patient in fold.values()]
    harmless = _harmless(patients, values["minimum_voxels"])

    def rank(candidate: tuple[int, int]) -> tuple[float, float, int]:
        limit, minimum = values["threshold"][candidate[0]], values["minimum_voxels"][candidate[1]]
        return -_mean_dice(patients, candidate), abs(limit - 0.5), minimum

    best = min(itertools.product(range(len(values["threshold"])), harmless), key=rank)
    chosen = {name: of_name[place] for (name, of_name), place in zip(values.items(), best, strict=True)}
    return {**chosen, "dice": _mean_dice(patients, best), "patients": len(patients)}


def _harmless(patients: Sequence[Int64[np.ndarray, "t m 3"]], minima: Sequence[int]) -> list[int]:
    """The places of the minima that may be chosen; of the config's alone, that one."""
    # True positive and false negative, which add up to the same at any threshold.
    tumours = [size for of_patient in patients if (size := int(of_patient[0, 0, [0, 2]].sum()))]
    largest = LARGEST_SHARE * min(tumours, default=np.inf)
    return [place for place, minimum in enumerate(minima) if minimum <= largest or len(minima) == 1]


def _mean_dice(patients: Collection[Int64[np.ndarray, "t m 3"]], candidate: tuple[int, int]) -> float:
    """1 where no patient's Dice is defined: nothing is marked and nothing is found, which no value can better."""
    mean = metrics.mean_of_defined(metrics.dice(of_patient[candidate]) for of_patient in patients)
    return 1.0 if mean is None else mean

"""Statistics of a score over patients: mean, spread and the interval of the mean."""

from collections.abc import Iterable, Mapping

import numpy as np
import scipy  # its parts are imported when first used: none before a run's first step
from jaxtyping import Float64

# Patients that a bootstrap draws at once, over all of its resamples: 32 MB, whatever the number of patients.
DRAWN = 2**21


def mean_of_defined(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there is none."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def distribution(values: Iterable[float | None]) -> dict[str, float | list[float] | None]:
    """Mean, median, standard deviation and 95 % interval of the mean: "mean", "median", "std" and "ci95".

    The standard deviation divides by n - 1, and is 0 for a single value; the interval is that of `bootstrap_interval`.
    Values that are None do not count; without others, all are None.
    """
    array = np.asarray([value for value in values if value is not None], np.float64)
    if not len(array):
        return dict.fromkeys(("mean", "median", "std", "ci95"))
    return {
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        "std": float(array.std(ddof=1)) if len(array) > 1 else 0.0,
        "ci95": bootstrap_interval(array),
    }


def bootstrap_interval(values: Float64[np.ndarray, " n"], resamples: int = 10_000) -> list[float]:
    """The [low, high] of a 95 % bootstrap percentile interval of the mean (Efron 1979); the same on every call.

    Args:
        values: one a patient, at least one.
        resamples: number of times that as many patients are drawn, with replacement.
    """
    rng, at_once = np.random.default_rng(0), max(DRAWN // len(values), 1)
    # Drawn part by part, the numbers are those that are drawn in one go.
    sizes = [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
    means = [values[rng.integers(len(values), size=(size, len(values)))].mean(axis=1) for size in sizes]
    return [float(bound) for bound in np.percentile(np.concatenate(means), [2.5, 97.5])]


def paired_comparison(
    ours: Mapping[str, float | None], theirs: Mapping[str, float | None]
) -> dict[str, int | float | list[float] | None]:
    """Two scores of the same patients, by their differences, ours less theirs.

    Patients whose score is undefined in one of them stand in no difference.

    Args:
        ours: by patient.
        theirs: by patient.

    Returns:
        how many patients there are; the mean difference with its 95 % bootstrap interval over patients; how many are
        better, worse and equal; and the two-sided p-value of Wilcoxon's signed-rank test (Wilcoxon 1945; equal patients
        left out), None where all are equal. Without any patient, mean and interval are None too.
    """
    both = [patient for patient in ours if ours[patient] is not None and theirs[patient] is not None]
    differences = np.array([ours[patient] - theirs[patient] for patient in both], np.float64)
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return {
        "patients": len(differences),
        "mean_difference": float(differences.mean()) if both else None,
        "ci95": bootstrap_interval(differences) if both else None,
        "better": better,
        "worse": worse,
        "equal": len(differences) - better - worse,
        "p_value": float(scipy.stats.wilcoxon(differences).pvalue) if better or worse else None,
    }

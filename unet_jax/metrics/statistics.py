"""Statistics of a score over patients: mean, spread and the interval of the mean."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64


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
    draws = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    return [float(bound) for bound in np.percentile(values[draws].mean(axis=1), [2.5, 97.5])]

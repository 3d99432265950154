"""Draws that give every side of a split its share of small and of large tumours."""

import math

import numpy as np
from jaxtyping import Bool, Float64, Int

# What units are ordered by: shares of tumour, or whether there is any.
Measure = Float64[np.ndarray, " n"] | Bool[np.ndarray, " n"]


def _ordered(measure: Measure, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Positions from the smallest measure to the largest, ties in random order."""
    return np.lexsort((rng.permutation(len(measure)), measure))


def draw(measure: Measure, number: int, rng: np.random.Generator) -> Int[np.ndarray, " number"]:
    """One position from each of `number` blocks of neighbours, whose lengths differ by one at most."""
    edges = np.arange(number + 1) * len(measure) // number
    return _ordered(measure, rng)[rng.integers(edges[:-1], edges[1:])]


def deal(measure: Measure, folds: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """The fold of each position: of every `folds` neighbours, each goes into another fold."""
    rounds = [rng.permutation(folds) for _ in range(0, len(measure), folds)]
    fold_of = np.empty(len(measure), int)
    fold_of[_ordered(measure, rng)] = np.concatenate(rounds)[: len(measure)]
    return fold_of


def count(fraction: float, total: int) -> int:
    """So much of a total, rounded up."""
    # The inner rounding keeps a product such as 0.07 * 100 = 7.000000000000001 from becoming 8.
    return math.ceil(round(fraction * total, 9))


def left_to_train(total: int, val_fraction: float, test_fraction: float, folds: int) -> int:
    """How many units are left, in the fold with the largest test side."""
    if folds:
        rest = total - math.ceil(total / folds)
        return rest - count(val_fraction, rest) if total >= folds else 0
    rest = total - count(val_fraction, total)
    return rest - count(test_fraction, rest)

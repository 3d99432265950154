"""Which configuration of a plan segments best, or which two of them together.

Source of the rule: nnunetv2 2.8.1, evaluation/find_best_configuration.py.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from unet_jax.metrics import nnunet_scores, overlap, statistics
from unet_jax.metrics.nnunet_scores import Key, Scores


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A configuration, or two whose probabilities are averaged.

    Attributes:
        members: the names of the configurations.
    """

    members: tuple[str, ...]

    @property
    def name(self) -> str:
        """What a table calls it."""
        return " + ".join(self.members)


def candidates(configurations: Sequence[str]) -> list[Candidate]:
    """Each configuration by itself, then all pairs; in this order, the first of equals is chosen."""
    pairs = itertools.combinations(configurations, 2)
    return [*(Candidate((name,)) for name in configurations), *(Candidate(pair) for pair in pairs)]


def score(cases: Sequence[Mapping[Key, Scores]]) -> float | None:
    """What candidates are chosen by: the mean Dice over labels or regions, of each the mean over all cases pooled.

    None where it is undefined for one of them in every case.
    """
    return nnunet_scores.foreground_mean(nnunet_scores.means(cases))["Dice"]


def best(scores: Mapping[Candidate, float | None]) -> Candidate:
    """The candidate of the highest score, the first of equals; one whose score is undefined comes after all others."""
    return max(scores, key=lambda candidate: -1.0 if scores[candidate] is None else scores[candidate])


def dice_by_patient(cases: Sequence[Mapping[Key, Scores]], patients: Sequence[str]) -> dict[str, float | None]:
    """Dice over all of each patient's cases, the mean over labels or regions where it is defined.

    Args:
        cases: the scores of each.
        patients: whose each case is.
    """
    totals: dict[str, dict[Key, np.ndarray]] = {}
    for case, patient in zip(cases, patients, strict=True):
        of_patient = totals.setdefault(patient, {key: np.zeros(3, np.int64) for key in case})
        for key, found in case.items():
            of_patient[key] += [found["TP"], found["FP"], found["FN"]]
    return {
        patient: statistics.mean_of_defined(overlap.dice(counts) for counts in of_patient.values())
        for patient, of_patient in totals.items()
    }

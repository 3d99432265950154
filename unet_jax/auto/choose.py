"""Pooled masks → the choice: every candidate scored, the best with its post-processing, and what the tables show."""

from collections.abc import Mapping, Sequence
from typing import Any

from unet_jax.auto.best import Best
from unet_jax.auto.pool import Pooled
from unet_jax.evaluation import choice, postprocessing
from unet_jax.evaluation.choice import Candidate
from unet_jax.evaluation.postprocessing import Determined
from unet_jax.metrics import nnunet_scores, statistics
from unet_jax.metrics.nnunet_scores import Key, Scores

# Of one case, by label or region.
OfCase = Mapping[Key, Scores]


def score_all(pooled: Pooled, keys: Sequence[Key], ignored: int | None) -> dict[Candidate, list[OfCase]]:
    """The scores of every candidate for every case; a case's masks are read once."""
    scored: dict[Candidate, list[OfCase]] = {candidate: [] for candidate in pooled.candidates}
    for position in pooled.files:
        truth = pooled.data.cases[position].mask
        for candidate, mask in zip(pooled.candidates, pooled.masks(position), strict=True):
            scored[candidate].append(nnunet_scores.score(mask, truth, keys, ignored))
    return scored


def choose(
    pooled: Pooled,
    scored: Mapping[Candidate, Sequence[OfCase]],
    names: Mapping[Key, str],
    ignored: int | None,
    origin: str,
) -> tuple[Best, Determined]:
    """The best candidate, and the post-processing that helps it, as nnU-Net would choose.

    Args:
        pooled: the cases.
        scored: of `score_all`.
        names: what each label or region is called.
        ignored: the label of voxels that nobody labelled.
        origin: of the masks.
    """
    best = choice.best({candidate: choice.score(cases) for candidate, cases in scored.items()})
    found = postprocessing.determine(pooled.pairs(best), tuple(names), ignored)
    folds = tuple(sorted(set(pooled.fold_of.values())))
    return Best(best.members, folds, found.steps, _results(pooled, scored, best, found, names, origin)), found


def _results(
    pooled: Pooled,
    scored: Mapping[Candidate, Sequence[OfCase]],
    best: Candidate,
    found: Determined,
    names: Mapping[Key, str],
    origin: str,
) -> dict[str, Any]:
    """What best.json has of the candidates, in their order, and of the chosen one after post-processing.

    `score` is nnU-Net's: the mean over classes of each one's mean over cases. What has an interval is the Dice of
    patients, each the mean of its classes, and so are the differences from the chosen candidate, theirs less its.
    """
    patients = [pooled.data.cases[position].patient for position in pooled.files]
    by_patient = {candidate: choice.dice_by_patient(cases, patients) for candidate, cases in scored.items()}
    after = choice.dice_by_patient(found.after, patients)
    return {
        "origin": origin,
        "unit": pooled.data.unit,
        "patients": len(set(patients)),
        "cases": len(patients),
        "names": {str(key): name for key, name in names.items()},
        "candidates": [
            _of_cases(cases, by_patient[candidate], names)
            | {
                "name": candidate.name,
                "chosen": candidate == best,
                "against_chosen": None
                if candidate == best
                else statistics.paired_comparison(by_patient[candidate], by_patient[best]),
            }
            for candidate, cases in scored.items()
        ],
        "postprocessed": _of_cases(found.after, after, names)
        | {"against_chosen": statistics.paired_comparison(after, by_patient[best])},
    }


def _of_cases(
    cases: Sequence[OfCase], by_patient: Mapping[str, float | None], names: Mapping[Key, str]
) -> dict[str, Any]:
    means = nnunet_scores.means(cases)
    return {
        "score": choice.score(cases),
        "classes": {name: means[key]["Dice"] for key, name in names.items()},
        "dice_per_patient": statistics.distribution(by_patient.values()),
    }

"""Which of nnU-Net's post-processing helps, determined on the cases of a cross-validation.

Source: nnunetv2 2.8.1, postprocessing/remove_connected_components.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer

from unet_jax.inference import components
from unet_jax.inference.components import Step
from unet_jax.metrics import nnunet_scores
from unet_jax.metrics.nnunet_scores import Key, Scores

# Axes have no names, as cases differ in size.
Mask = Integer[np.ndarray, "_ _ _"]


@dataclasses.dataclass(frozen=True)
class Determined:
    """What was accepted, and what it changed.

    Attributes:
        steps: what `components.apply` takes; none where nothing helps.
        before: of each case as predicted, its scores by label or region.
        after: the same after `steps`.
    """

    steps: tuple[Step, ...]
    before: list[dict[Key, Scores]]
    after: list[dict[Key, Scores]]


def determine(cases: Sequence[tuple[Mask, Mask]], keys: Sequence[Key], ignored: int | None = None) -> Determined:
    """Tries the largest component of all foreground, then, of several labels or regions, that of each in turn.

    All foreground is accepted if the mean Dice over labels or regions rises and none of them falls; one of them if its
    own rises, on top of what is accepted so far. What is undefined neither rises nor falls.

    Args:
        cases: (predicted, true) mask of each, which may be read when it is asked for; at least one.
        keys: the labels or regions, without the background.
        ignored: the label of voxels that nobody labelled.
    """
    before = now = _scored(cases, keys, ignored, ())
    accepted: tuple[Step, ...] = ()
    everything: Step = tuple(keys)
    tried = _scored(cases, keys, ignored, (everything,))
    if _helps_all(nnunet_scores.means(now), nnunet_scores.means(tried)):
        accepted, now = (everything,), tried
    for key in keys if len(keys) > 1 else ():
        tried = _scored(cases, keys, ignored, (*accepted, (key,)))
        if _rises(nnunet_scores.means(now)[key]["Dice"], nnunet_scores.means(tried)[key]["Dice"]):
            accepted, now = (*accepted, (key,)), tried
    return Determined(accepted, before, now)


def _scored(
    cases: Sequence[tuple[Mask, Mask]], keys: Sequence[Key], ignored: int | None, steps: tuple[Step, ...]
) -> list[dict[Key, Scores]]:
    return [nnunet_scores.score(components.apply(predicted, steps), truth, keys, ignored) for predicted, truth in cases]


def _helps_all(old: Mapping[Key, Scores], new: Mapping[Key, Scores]) -> bool:
    over_all = (nnunet_scores.foreground_mean(scores)["Dice"] for scores in (old, new))
    return _rises(*over_all) and not any(_rises(new[key]["Dice"], old[key]["Dice"]) for key in old)


def _rises(old: float | None, new: float | None) -> bool:
    return old is not None and new is not None and new > old

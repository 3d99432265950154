"""Cases of a data set, preprocessed by a run's plan; a cascade's second network is given the first one's masks."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.data.load import DataSet
from unet_jax.plan import previous_masks, sources
from unet_jax.plan.dataset import labels_of
from unet_jax.plan.prepared import PreparedCase, prepare
from unet_jax.plan.run_plan import RunPlan
from unet_jax.runtime import caches


def prepare_cases(
    config: ConfigDict, data: DataSet, plan: RunPlan, positions: Sequence[int]
) -> dict[int, PreparedCase]:
    """Preprocesses cases, or finds them in the cache; by their position in the data.

    Raises:
        InputError: a case cannot be preprocessed, or has no mask of the first stage.
        StorageError: the disk of the cache is full, read-only or failing.
    """
    of_data = sources.of_cases(data)
    # The plan of a finished run does not say whether the data ignore a label.
    dataset = dataclasses.replace(plan.dataset, labels=labels_of(data.classes, ignores=data.ignores))
    cases = prepare(
        [of_data[position] for position in positions],
        dataset,
        plan.plans,
        plan.configuration,
        caches.place_of(config.data.cache),
    )
    if config.plan.previous:
        labels = tuple(number for number in plan.dataset.numbers if number > 0)
        masks = previous_masks.read(Path(config.plan.previous), {case.name: case.shape for case in cases}, labels)
        cases = [dataclasses.replace(case, previous=masks[case.name]) for case in cases]
    return dict(zip(positions, cases, strict=True))

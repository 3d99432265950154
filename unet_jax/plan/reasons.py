"""Says in words why each number of a plan is what it is."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float64

from unet_jax.plan.configurations import (
    CASCADE,
    FULLRES,
    LOWRES,
    LOWRES_BELOW,
    LOWRES_WORTH,
    SLICES,
    Budget,
    Choice,
    Choices,
)
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.fingerprint import Fingerprint
from unet_jax.plan.normalisation import BY_NAME, CROPPED
from unet_jax.plan.plans import Plans
from unet_jax.plan.presets import MIN_BATCH, REFERENCE_BATCH
from unet_jax.plan.spacing import COARSE, FINE_PERCENTILE, coarse_axis
from unet_jax.plan.topology import MIN_SIZE
from unet_jax.wording import count


def lines(
    plans: Plans,
    fingerprint: Fingerprint,
    dataset: Dataset,
    choices: Choices,
    budget: Budget,
    *,
    target: Float64[np.ndarray, " 3"],
    given: bool,
) -> tuple[str, ...]:
    """A line for each decision of a plan.

    Args:
        plans: the plan.
        fingerprint: of the data set.
        dataset: what it was made of, with the fingerprint.
        choices: how its patches came about.
        budget: what it was made for.
        target: millimetres an axis that cases are resampled to, in the order in which they are read.
        given: whether somebody gave `target`.
    """
    return (
        *_cases(fingerprint, dataset),
        _spacing(fingerprint, target, given=given),
        _order(plans.transpose_forward),
        *_normalisation(plans, fingerprint, dataset),
        *_volumes(choices, budget),
        *_configuration(SLICES, choices.slices, budget),
        f"{SLICES}: the Dice loss takes a batch as one sample, as always in 2-D.",
    )


def _cases(fingerprint: Fingerprint, dataset: Dataset) -> list[str]:
    found = len(fingerprint.spacings)
    if found == dataset.training_cases:
        return []
    return [
        f"The fingerprint is of {count(found, 'case')} and dataset.json has numTraining {dataset.training_cases}: "
        "batch sizes go by the latter, spacings and shapes by the former."
    ]


def _spacing(fingerprint: Fingerprint, target: Float64[np.ndarray, " 3"], *, given: bool) -> str:
    start = f"Spacing {_shape(target)} mm (axes as they are read)"
    if given:
        return f"{start}: as given."
    start = f"{start}: the median of {count(len(fingerprint.spacings), 'case')}"
    median = np.percentile(fingerprint.spacings, 50, axis=0)
    axis = coarse_axis(median, np.percentile(fingerprint.shapes, 50, axis=0))
    if axis is None or target[axis] == median[axis]:
        return f"{start} along each axis."
    finest = np.percentile(fingerprint.spacings[:, axis], FINE_PERCENTILE)
    instead = f"the {FINE_PERCENTILE}th percentile, {finest:g}, instead of the median, {median[axis]:g}"
    if finest < np.delete(target, axis).max():
        instead += ", but no finer than the other axes"
    return (
        f"{start}; along axis {axis}, whose voxels are more than {COARSE} times as long as the others' and more than "
        f"{COARSE} times fewer, {instead}."
    )


def _order(order: Sequence[int]) -> str:
    if tuple(order) == (0, 1, 2):
        return "Axes stay in the order in which they are read."
    return f"Axes are taken in the order {', '.join(map(str, order))}: the one of the largest spacing first."


def _normalisation(plans: Plans, fingerprint: Fingerprint, dataset: Dataset) -> list[str]:
    configuration = plans.configurations[SLICES]
    found = []
    for index, name in enumerate(dataset.channels):
        scheme = configuration.normalisation[index]
        why = "by its name" if name.casefold() in BY_NAME else "as its name is not one of " + ", ".join(BY_NAME)
        line = f"Channel {index} ({name}) is normalised by {scheme}, {why}"
        if configuration.inside_only[index]:
            part = f"{fingerprint.relative_size:.0%} of the median case, under {CROPPED:.0%}"
            line += f"; within the body alone, as cropping leaves {part}"
        found.append(f"{line}.")
    return found


def _volumes(choices: Choices, budget: Budget) -> list[str]:
    fullres, lowres = choices.fullres, choices.lowres
    if fullres is None:
        return ["There is not a configuration of volumes, as the median case has one slice."]
    part = math.prod(fullres.patch.patch) / math.prod(fullres.median_shape)
    covers = f"a patch of {FULLRES} covers {part:.0%} of the median case"
    found = list(_configuration(FULLRES, fullres, budget))
    if lowres is None:
        return [*found, f"There is no {LOWRES}, as {covers}, not less than {LOWRES_BELOW:.0%}."]
    fewer = math.prod(fullres.median_shape) / math.prod(lowres.median_shape)
    spacing = f"{_shape(lowres.spacing)} mm, the finest at which a patch covers {LOWRES_BELOW:.0%}"
    if not choices.is_lowres_worth_it:
        return [
            *found,
            f"There is no {LOWRES}, although {covers}: at {spacing}, cases would have {fewer:.2g} times fewer voxels, "
            f"and {LOWRES_WORTH} times are asked for.",
        ]
    return [
        *found,
        f"{LOWRES} is there as {covers}, less than {LOWRES_BELOW:.0%}; its spacing is {spacing}.",
        *_configuration(LOWRES, lowres, budget),
        f"{CASCADE} sees the masks of {LOWRES} beside the image. With it, the Dice loss of {FULLRES} takes a batch as "
        "one sample.",
    ]


def _configuration(name: str, chosen: Choice, budget: Budget) -> list[str]:
    choice, median_shape = chosen.patch, chosen.median_shape
    preset, network = budget.preset, choice.network
    first, last = choice.tried[0], choice.tried[-1]
    axes = len(last.patch)
    reference = MIN_BATCH if preset.fills_smallest_batch else REFERENCE_BATCH[axes]
    needs = last.activations * reference / REFERENCE_BATCH[axes]
    steps = len(choice.tried) - 1
    if steps:
        how = f"reduced from {_shape(first.patch)} in {steps} step{'s' if steps > 1 else ''}"
    elif all(n >= median for n, median in zip(last.patch, median_shape, strict=True)):
        how = "the median case, padded"
    else:
        how = "the largest that is looked for"
    rule = "the smaller" if choice.batch_size > MIN_BATCH else f"the smaller, but at least {MIN_BATCH}"
    divisor = [math.prod(axis) for axis in zip(*network.strides, strict=True)]
    return [
        f"{name}: patch {_shape(last.patch)}, {how}: a batch of {reference} counts {needs:.3g} in nnU-Net's "
        f"memory proxy, and {budget.memory_gb:g} GB {choice.budget:.3g}.",
        f"{name}: {len(network.features)} stages, {network.features[0]} to {network.features[-1]} features: axes are "
        f"halved while {MIN_SIZE} voxels are left, together with those less than twice as coarse, by {_shape(divisor)} "
        "in all.",
        f"{name}: batch size {choice.batch_size}: memory allows {choice.batch_by_memory}, and {preset.coverage:.0%} of "
        f"all voxels are {choice.batch_by_coverage} patches; it is {rule}.",
    ]


def _shape(values: Iterable[int | float]) -> str:
    return " × ".join(f"{n:.6g}" for n in values)

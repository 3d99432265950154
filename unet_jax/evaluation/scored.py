"""Cases in, scores and masks out: of several processes each segments its share, and all have the whole in the end."""

import functools

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from unet_jax.data import regions
from unet_jax.data.labels import LabelMap
from unet_jax.data.load import DataSet
from unet_jax.data.slices import slices_by_case
from unet_jax.inference import postprocess, shared
from unet_jax.inference.network import Logits, Probability
from unet_jax.inference.segment import in_order, segment_cases
from unet_jax.inference.settings import SegmentSettings
from unet_jax.metrics.cases import Scores, Stages, score_cases, worst_first
from unet_jax.plan.prepared_data import prepare_cases
from unet_jax.report import packed_masks
from unet_jax.report.packed_masks import PackedMask
from unet_jax.runtime import exchange


def score_slices(
    probability: Probability | Logits,
    config: ConfigDict,
    data: DataSet,
    index: Int[np.ndarray, "n 2"],
    settings: SegmentSettings,
    classes: LabelMap,
    *,
    title: str,
) -> tuple[dict[str, Scores], dict[int, PackedMask]]:
    """The scores at each stage of post-processing, and the masks as predicted, by the position of their case.

    Args:
        probability: the network, with its parameters.
        config: the run's.
        data: with the cases.
        index: (position in cases, slice) of each slice that is scored.
        settings: the run's.
        classes: several, of run and data; empty for one.
        title: of the progress bar.
    """
    masks: dict[int, PackedMask] = {}
    own = shared.own_part(data.cases, index)
    # Of a cascade's second network, whose first stage's masks are those of training.
    prepared = (
        prepare_cases(config, data, settings.plan, np.unique(index[:, 0]).tolist()) if config.plan.previous else None
    )
    predicted = segment_cases(probability, data.cases, own, settings, title=title, prepared=prepared)
    stages = score_cases(
        data.cases,
        packed_masks.keep(predicted, masks),
        tolerance=config.eval.surface_tolerance,
        stages=_stages(settings, classes),
        classes=classes,
        cldice=config.eval.cldice,
    )
    stages = _of_all_processes(data, index, own, settings, stages)
    return stages, packed_masks.of_all_processes(masks)


def _stages(settings: SegmentSettings, classes: LabelMap) -> Stages:
    """What `score_cases` makes of a mask."""
    if regions.overlap(classes):
        return functools.partial(postprocess.stages_of_regions, settings=settings.postprocess, classes=classes)
    return functools.partial(postprocess.stages, settings=settings.postprocess)


def _of_all_processes(
    data: DataSet,
    index: Int[np.ndarray, "n 2"],
    own: Int[np.ndarray, "m 2"],
    settings: SegmentSettings,
    stages: dict[str, Scores],
) -> dict[str, Scores]:
    """The scores of all cases, in the order of `segment_cases`, from those that each process has of its own."""
    if exchange.count() == 1:
        return stages
    slices = slices_by_case(index)
    rows: dict[int, dict] = {}
    names = {case.name: position for position, case in enumerate(data.cases)}
    ordered = in_order(data.cases, slices_by_case(own), settings)
    ends = np.cumsum([len(slices[position]) for position in ordered])[:-1]
    for stage, scores in stages.items():
        counts = dict(zip(ordered, np.split(scores.counts, ends), strict=True))
        for row in scores.rows:
            position = names[row["case"]]
            rows.setdefault(position, {})[stage] = [row, counts[position].tolist()]
    found = shared.by_position(rows, in_order(data.cases, slices, settings))
    return {
        stage: Scores(
            worst_first(of_case[stage][0] for of_case in found.values()),
            np.concatenate([np.array(of_case[stage][1], np.int64) for of_case in found.values()]),
        )
        for stage in next(iter(found.values()))
    }

"""What a run is trained on, step by step: slices or slabs of cases, or patches of preprocessed ones."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import numpy as np
from jaxtyping import Int32
from ml_collections import ConfigDict

from unet_jax.data import labels, pipeline
from unet_jax.data.case import Case
from unet_jax.data.load import DataSet
from unet_jax.data.pipeline import Batch
from unet_jax.data.slices import Slices
from unet_jax.losses import weight_maps
from unet_jax.plan.enlarged_patch import enlarged_patch
from unet_jax.plan.patches import Sampling
from unet_jax.plan.prepared import PreparedCase
from unet_jax.plan.prepared_data import prepare_cases
from unet_jax.plan.run_plan import RunPlan
from unet_jax.plan.training_patches import Patches
from unet_jax.training.validation_loss import number_of_batches

# As nnU-Net counts an epoch.
STEPS_PER_EPOCH = 250

# (position in cases, slice) of each side
Index = Mapping[str, Int32[np.ndarray, "n 2"]]


@dataclasses.dataclass(frozen=True)
class Samples:
    """What a run trains on, and what its validation loss is taken of.

    Attributes:
        steps_per_epoch: how many.
        batches: the batches from a step on, to the end of the last epoch; this process's part of each.
        validation: batches of the validation side, the same at each call; this process's part of each.
        slices: all of the training side; None for patches.
        positions: for slices, those of `batches` in `slices`, without their pixels.
        prepared: for patches, the preprocessed cases of training and validation by their position in the data.
    """

    steps_per_epoch: int
    batches: Callable[[int], Iterable[Batch]]
    validation: Callable[[], Iterator[Batch]]
    slices: Slices | None = None
    positions: Callable[[int], Iterable[Batch]] | None = None
    prepared: Mapping[int, PreparedCase] = dataclasses.field(default_factory=dict)


def of_slices(config: ConfigDict, cases: list[Case], index: Index) -> Samples:
    """Slices or slabs, all of them in every epoch.

    Raises:
        InputError: the cases do not go together, or do not fill a batch.
    """
    weigh = pixel_weights(config, cases, index["train"])
    slices = Slices(cases, index["train"], config.data.slab, weigh, config.data.neighbours)
    steps = pipeline.steps_per_epoch(len(slices), config.train.batch_size, jax.process_count())

    def batches(start_step: int, *, gathered: bool = True) -> Iterable[Batch]:
        return pipeline.training_batches(
            slices,
            batch_size=config.train.batch_size,
            seed=config.seed,
            epochs=config.train.epochs,
            start_step=start_step,
            shard=jax.process_index(),
            shards=jax.process_count(),
            workers=config.data.workers if gathered else 0,
            tumour_share=config.data.tumour_share,
            gathered=gathered,
        )

    validation = functools.partial(_validation_slices, config, cases, index, weigh, steps)
    return Samples(steps, batches, validation, slices, functools.partial(batches, gathered=False))


def _validation_slices(
    config: ConfigDict,
    cases: list[Case],
    index: Index,
    weigh: Callable | None,
    steps_per_epoch: int,
) -> Iterator[Batch]:
    """Batches of slices spread evenly over the validation side, and so are those of each; few slices are repeated."""
    slices = Slices(cases, index["val"], config.data.slab, weigh, config.data.neighbours)
    size, number = _validation_batches(config, len(slices), steps_per_epoch)
    places = np.arange(number * size) * len(slices) // (number * size)
    rows = pipeline.share_of(size, jax.process_index(), jax.process_count())
    for first in range(number):
        yield slices.gather(places[first::number][rows.start : rows.stop])


def _validation_batches(config: ConfigDict, samples: int | None, steps_per_epoch: int) -> tuple[int, int]:
    """The size and the number of the batches: those that go through the network at a time in training."""
    size = config.train.batch_size // config.train.accumulate
    return size, number_of_batches(samples, size, steps_per_epoch * config.train.accumulate)


def of_patches(config: ConfigDict, data: DataSet, index: Index, plan: RunPlan) -> Samples:
    """Patches, drawn anew in every step; preprocesses the cases of training and validation, or finds them in the cache.

    Raises:
        InputError: a case cannot be preprocessed.
        StorageError: the disk of the cache is full, read-only or failing.
    """
    pipeline.check_shards(config.train.batch_size, jax.process_count())
    train, val = (np.unique(index[side][:, 0]) for side in ("train", "val"))
    prepared = prepare_cases(config, data, plan, np.union1d(train, val).tolist())
    sampling = Sampling(
        config.train.batch_size, plan.configuration.patch_size, _cut(config, plan), config.data.foreground_share
    )
    patches = Patches([prepared[position] for position in train.tolist()], train, sampling, config.seed)
    rows = pipeline.share_of(config.train.batch_size, jax.process_index(), jax.process_count())
    steps = config.train.steps_per_epoch or STEPS_PER_EPOCH

    def batches(start_step: int) -> Iterable[Batch]:
        batch_at = functools.partial(patches.at, rows=rows)
        return pipeline.batches_of_steps(batch_at, range(start_step, config.train.epochs * steps), config.data.workers)

    def validation() -> Iterator[Batch]:
        size, number = _validation_batches(config, None, steps)
        # As the network sees them: nothing is turned or scaled.
        uncut = dataclasses.replace(sampling, batch_size=size, drawn=None)
        drawn = Patches([prepared[position] for position in val.tolist()], val, uncut, config.seed)
        rows = pipeline.share_of(size, jax.process_index(), jax.process_count())
        return (drawn.at(step, rows) for step in range(number))

    return Samples(steps, batches, validation, prepared=prepared)


def _cut(config: ConfigDict, plan: RunPlan) -> tuple[int, ...] | None:
    """Voxels an axis to cut, where patches are turned or scaled, so that they are full afterwards."""
    augment = config.augment_patches
    moves = augment.rotation.probability > 0 or augment.scaling.probability > 0
    return enlarged_patch(plan.configuration.patch_size) if moves else None


def pixel_weights(config: ConfigDict, cases: list[Case], index: Int32[np.ndarray, "n 2"]) -> Callable | None:
    """What makes pixel weights of a mask, from the training side's balance of tumour and background."""
    border = config.border_weights
    if border.w0 == 0:
        return None
    masks = (labels.without_ignored(cases[position].mask[number]) for position, number in index)
    balance = weight_maps.balanced_class_weights(masks)
    return functools.partial(weight_maps.border_weight_map, class_weights=balance, w0=border.w0, sigma=border.sigma)

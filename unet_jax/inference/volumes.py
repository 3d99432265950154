"""A preprocessed case in, its mask in the files' geometry out: windows that overlap, and the way back, in a stream.

Logits of all classes exist for as many slices as windows reach over, on the device: slices that no later window touches
are resampled and decided there, a few at a time, and only labels travel to the host. It holds the image and the mask.
Windows and rules are those of nnunetv2 2.8.1, inference/predict_from_raw_data.py; sums are float32 here.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float32, UInt8, UInt16
from tqdm import tqdm

from unet_jax.inference.averaged import Network, averaged
from unet_jax.inference.restore_on_device import (
    Decision,
    Result,
    WayBack,
    can_stream,
    restore_slices,
    undecided,
    way_back,
)
from unet_jax.inference.rolling_sums import RollingSums, rounded
from unet_jax.inference.volume_windows import Layout, Step, cut, lay_out, schedule
from unet_jax.plan import restore
from unet_jax.plan.crop import slices
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.preprocess import Geometry, spacing_of
from unet_jax.plan.resample import matrices
from unet_jax.plan.spacing import inverse

# What the logits of the slices that are restored at once may take: this part of the image's bytes, or this many.
SLAB_PART, SLAB_BYTES = 1 / 8, 2**22
# Seconds of a case before it gets a progress bar.
DELAY_S = 5


@dataclasses.dataclass(frozen=True)
class VolumeSettings:
    """How a case is segmented.

    Attributes:
        batch_size: windows at a time; the last batch is filled with zeros, so that there is one program a patch size.
        sharding: how a batch lies on the devices.
        mirror_axes: of the patch, from 0; logits are averaged over all flips of them.
        step: how far apart windows are at most, as a share of their size.
        gaussian: whether a window's centre counts more than its border.
    """

    batch_size: int
    sharding: jax.sharding.Sharding
    mirror_axes: tuple[int, ...] = ()
    step: float = 0.5
    gaussian: bool = True


def segment_case(
    logits: Network | Sequence[Network],
    image: Float32[np.ndarray, "d h w c"],
    geometry: Geometry,
    plans: Plans,
    configuration: Configuration,
    dataset: Dataset,
    settings: VolumeSettings,
    *,
    keep_probabilities: bool = False,
    threshold: float | None = None,
) -> tuple[UInt8[np.ndarray, "D H W"] | UInt16[np.ndarray, "D H W"], Float32[np.ndarray, "D H W k"] | None]:
    """The mask of a case in its files' geometry, and the probabilities where they are asked for.

    A plan that resamples logits by cubic splines, which none does by itself, has them held as a whole.

    Args:
        logits: the network, or those of several folds, whose logits are averaged.
        image: preprocessed.
        geometry: of the preprocessed case.
        plans: the plan it was preprocessed by, and `configuration` that plan's.
        configuration: whose network predicts; one of two axes sees slice after slice.
        dataset: its labels or regions.
        settings: how.
        keep_probabilities: whether they are returned: as many numbers a voxel as there are labels or regions.
        threshold: see `Decision`.

    Raises:
        InputError: the network has more or fewer outputs than there are labels or regions.
    """
    if not can_stream(configuration.logits):
        whole = volume_logits(logits, image, configuration, settings)
        given = whole, geometry, plans, configuration, dataset
        if threshold is None:
            return restore.to_mask(*given), restore.to_probabilities(*given) if keep_probabilities else None
        probability = restore.to_probabilities(*given)
        mask = (probability[..., 1] >= threshold).astype(restore.label_type(dataset))
        return mask, probability if keep_probabilities else None
    layout = _lay_out(image, configuration, settings)
    present = spacing_of(configuration, geometry)
    back = matrices(layout.shape, geometry.cropped, present, geometry.spacing, configuration.logits)
    decision = Decision(dataset.regions_order, restore.label_type(dataset), keep_probabilities, threshold)
    mask, probability = _outside(geometry, plans, dataset, keep_probabilities)
    # Both are written through views whose axes stand in the plan's order.
    order = plans.transpose_forward
    inner = mask.transpose(order)[slices(geometry.box)]
    stream = _stream(logits, image, layout, way_back(layout, back), settings, decision, dataset)
    for place, (labels, found) in stream:
        inner[place] = labels
        if probability is not None:
            probability.transpose(*order, 3)[slices(geometry.box)][place] = np.moveaxis(found, 1, -1)
    return mask, probability


def volume_logits(
    logits: Network | Sequence[Network],
    image: Float32[np.ndarray, "d h w c"],
    configuration: Configuration,
    settings: VolumeSettings,
) -> Float32[np.ndarray, "d h w k"]:
    """The logits of every voxel of a preprocessed image, all on the host; the arguments are those of `segment_case`."""
    layout = _lay_out(image, configuration, settings)
    way, result = way_back(layout, [np.eye(n) for n in layout.shape]), None
    for place, found in _stream(logits, image, layout, way, settings, undecided):
        if result is None:
            result = np.empty((*layout.shape, found.shape[1]), np.float32)
        result[place] = np.moveaxis(found, 1, -1)
    return result


def _outside(geometry: Geometry, plans: Plans, dataset: Dataset, keep_probabilities: bool) -> tuple:
    """A mask of background, and its probabilities or None, in the files' geometry."""
    shape = tuple(geometry.shape[axis] for axis in inverse(plans.transpose_forward))
    mask = np.zeros(shape, restore.label_type(dataset))
    if not keep_probabilities:
        return mask, None
    probability = np.zeros((*shape, dataset.outputs), np.float32)
    if dataset.regions is None:
        probability[..., 0] = 1
    return mask, probability


def _lay_out(image: Float32[np.ndarray, "d h w c"], configuration: Configuration, settings: VolumeSettings) -> Layout:
    return lay_out(image.shape[:3], configuration.patch_size, settings.step, gaussian=settings.gaussian)


def _stream(
    logits: Network | Sequence[Network],
    image: Float32[np.ndarray, "d h w c"],
    layout: Layout,
    way: WayBack,
    settings: VolumeSettings,
    convert: Callable[[Array], Result],
    dataset: Dataset | None = None,
) -> Iterator[tuple[slice, Result]]:
    """Slices of the result in order, on the host, with a progress bar. While some are fetched, a batch is computed."""
    network = averaged((logits,) if callable(logits) else tuple(logits), settings.mirror_axes)
    steps, depth = schedule(layout, settings.batch_size, way.slices.lower, way.slices.upper)
    sums = size = found = None
    with tqdm(total=layout.windows, unit="window", delay=DELAY_S, disable=None, leave=False) as bar:
        for step in steps:
            under_way = deque()
            # Nothing is finished before the first batch, which says how many channels there are.
            for part in _parts(step.finished, size):
                under_way.append((part, restore_slices(sums, way, part, size, convert)))
                # All of them at once would be a buffer each.
                if len(under_way) > 1:
                    yield _fetched(*under_way.popleft(), way)
            if len(step.batch):
                images = cut(image, layout, step.batch, settings.batch_size)
                # The device is at most one batch behind.
                jax.block_until_ready(found)
                found = network(jax.device_put(images, settings.sharding))
                if sums is None:
                    channels = found.shape[-1]
                    if dataset is not None:
                        restore.check_channels(channels, dataset)
                    sums = RollingSums(layout, depth, channels, settings.sharding)
                    size = _slab_size(steps, way, channels, image.nbytes)
                sums.clear(step.retired)
                sums.add(found, step.batch)
            for part in under_way:
                yield _fetched(*part, way)
            bar.update(len(step.batch))


def _parts(finished: range, size: int | None) -> Iterator[range]:
    """At most `size` slices at a time."""
    for start in range(0, len(finished), size or 1):
        yield finished[start : start + size]


def _fetched(part: range, result: Result, way: WayBack) -> tuple[slice, Result]:
    rows, columns = way.shape[1:]
    return slice(part.start, part.stop), jax.tree.map(
        lambda each: np.asarray(each)[: len(part), ..., :rows, :columns], result
    )


def _slab_size(steps: list[Step], way: WayBack, channels: int, image_bytes: int) -> int:
    """How many slices are restored at once."""
    one = 4 * channels * rounded(way.shape[1]) * rounded(way.shape[2])
    most = max(len(step.finished) for step in steps)
    return max(1, min(most, int(max(image_bytes * SLAB_PART, SLAB_BYTES)) // one))

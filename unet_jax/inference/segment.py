"""Cases in, masks in the cases' own geometry out: the one path of validation, evaluation and prediction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float32, Int, UInt8
from tqdm import tqdm

from unet_jax.data.case import Case
from unet_jax.data.slices import slices_by_case
from unet_jax.inference.network import Logits, Probability, with_flips
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.volumes import VolumeSettings, segment_case, volume_logits
from unet_jax.inference.windows import Assembly, Segmented, Wanted, Window
from unet_jax.plan.fingerprint import spacing_of
from unet_jax.plan.prepared import PreparedCase
from unet_jax.plan.preprocess import preprocess
from unet_jax.plan.run_plan import RunPlan

Batch = list[tuple[Assembly, Window]]


def segment_cases(
    probability: Probability | Logits,
    cases: Sequence[Case],
    index: Int[np.ndarray, "n 2"],
    settings: SegmentSettings,
    *,
    title: str,
    prepared: Mapping[int, PreparedCase] | None = None,
) -> Iterator[tuple[int, Int[np.ndarray, " s"], UInt8[np.ndarray, "s h w"]]]:
    """`segment_stream` of the slices in `index`, with a progress bar.

    Cases of one size come together, so that batches are full.

    Args:
        probability: the network, with its parameters.
        cases: where the slices are from.
        index: (position in cases, slice) of each; the slices of a case stand together, in order.
        settings: how.
        title: of the progress bar.
        prepared: for patches, cases that are preprocessed already, by their position in `cases`.

    Yields:
        the position in cases, the slices of that case in `index`, and their masks of 0 and 1, or of the numbers of
        several classes.
    """
    slices = slices_by_case(index)
    sizes = {cases[position].image.shape[1:3]: None for position in slices}
    place = {size: number for number, size in enumerate(sizes)}
    ordered = sorted(slices, key=lambda position: place[cases[position].image.shape[1:3]])
    found = prepared or {}
    wanted = (Wanted(position, cases[position], slices[position], found.get(position)) for position in ordered)
    segmented = segment_stream(probability, wanted, settings)
    for done in tqdm(segmented, desc=title, total=len(slices), unit="case", disable=None, leave=False):
        yield done.wanted.position, done.wanted.slices, done.mask


def segment_stream(
    probability: Probability | Logits,
    wanted: Iterable[Wanted],
    settings: SegmentSettings,
    *,
    keep_probabilities: bool = False,
) -> Iterator[Segmented]:
    """Segments one case after the other; draws no more of `wanted` than the batches under way need.

    Batches run across cases whose windows are of one size: padded to another, a slice would be segmented otherwise than
    alone. How the answers to overlapping windows are put together is in `windows`.

    Args:
        probability: the network, with its parameters; with `settings.plan`, to logits.
        wanted: what to segment; it may be made on the way.
        settings: how; post-processing is left to the caller.
        keep_probabilities: whether results have them.

    Yields:
        each case, in the order of `wanted`.
    """
    if settings.plan is not None:
        for one in wanted:
            yield _segment_whole(probability, one, settings, settings.plan, keep=keep_probabilities)
        return
    probability = with_flips(probability, settings.flips)
    assemblies = (Assembly(one, settings, keep=keep_probabilities) for one in wanted)
    pending: list[tuple[jax.Array, Batch]] = []
    for batch in _batches(assemblies, settings.batch_size):
        images = jax.device_put(_gather(batch, settings.batch_size), settings.sharding)
        pending.append((probability(images), batch))
        # While one batch is fetched, the next is being computed.
        if len(pending) == 2:
            yield from _fetch(*pending.pop(0))
    for last in pending:
        yield from _fetch(*last)


def _segment_whole(
    logits: Logits, wanted: Wanted, settings: SegmentSettings, plan: RunPlan, *, keep: bool
) -> Segmented:
    """A case by its plan: preprocessed, unless it is already, and segmented in windows of a patch."""
    case, configuration = wanted.case, plan.configuration
    # Never with its mask, which prediction does not have.
    found = wanted.prepared or preprocess(case.image, None, spacing_of(case), plan.plans, configuration)
    how = _volume_settings(settings)
    is_binary = plan.dataset.regions is None and plan.dataset.outputs == 2
    at_threshold = is_binary and settings.threshold != 0.5
    mask, probability = segment_case(
        logits,
        found.channels if isinstance(found, PreparedCase) else found.image,
        found.geometry,
        plan.plans,
        configuration,
        plan.dataset,
        how,
        keep_probabilities=keep or at_threshold,
    )
    if at_threshold:
        mask = probability[..., 1] >= settings.threshold
    if probability is not None:
        probability = (probability[..., 1] if is_binary else probability)[wanted.slices] if keep else None
    return Segmented(wanted, mask[wanted.slices].astype(np.uint8, copy=False), probability)


def whole_logits(
    logits: Logits, image: Float32[np.ndarray, "d h w c"], settings: SegmentSettings
) -> Float32[np.ndarray, "d h w k"]:
    """The logits of every voxel of a preprocessed image, on its grid; `settings` are those of a run on patches."""
    configuration = settings.plan.configuration
    return volume_logits(logits, image, configuration, _volume_settings(settings))


def _volume_settings(settings: SegmentSettings) -> VolumeSettings:
    return VolumeSettings(settings.batch_size, settings.sharding, settings.mirror_axes)


def _batches(assemblies: Iterable[Assembly], batch_size: int) -> Iterator[Batch]:
    """Windows in order; a batch ends where windows of another size or type begin."""
    batch, kind = [], None
    for assembly in assemblies:
        for window in assembly.windows:
            its = _kind(assembly, window)
            if batch and (its != kind or len(batch) == batch_size):
                yield batch
                batch = []
            batch.append((assembly, window))
            kind = its
    if batch:
        yield batch


def _kind(assembly: Assembly, window: Window) -> tuple:
    image = assembly.wanted.case.image
    rows, columns = (span.stop - span.start for span in (window.rows, window.columns))
    return (len(window.slices), rows, columns, assembly.channels), image.dtype


def _gather(batch: Batch, batch_size: int) -> np.ndarray:
    """The windows' pixels as one array; zeros where a slab or the batch is not full."""
    (slices, *rest), dtype = _kind(*batch[0])
    first = batch[0][0].cut(batch[0][1])
    images = np.zeros((batch_size, *([slices] if first.ndim == 4 else []), *rest), dtype)
    for place, (assembly, window) in enumerate(batch):
        part = assembly.cut(window)
        images[place, : len(part)] = part
    return images


def _fetch(found: jax.Array, batch: Batch) -> Iterator[Segmented]:
    for answer, (assembly, window) in zip(np.asarray(found), batch, strict=False):
        done = assembly.add(window, answer)
        if done is not None:
            yield done

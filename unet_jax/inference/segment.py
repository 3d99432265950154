"""Cases in, masks in the cases' own geometry out: the one path of validation, evaluation and prediction."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float32, Int, UInt8
from tqdm import tqdm

from unet_jax.data.case import Case
from unet_jax.data.slices import slices_by_case
from unet_jax.inference import buckets
from unet_jax.inference.network import Logits, Probability, with_flips
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.volumes import VolumeSettings, segment_case, volume_logits
from unet_jax.inference.windows import Assembly, Segmented, Wanted, Window
from unet_jax.plan.fingerprint import spacing_of
from unet_jax.plan.prepared import PreparedCase
from unet_jax.plan.preprocess import preprocess
from unet_jax.plan.run_plan import RunPlan

Batch = list[tuple[Assembly, Window]]
# Bytes of an image from which on no other one is held beside it.
LARGE = 2**27


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

    Cases of one size, or that are padded to one, come together, so that batches are full.

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
    ordered = in_order(cases, slices, settings)
    found = prepared or {}
    wanted = (Wanted(position, cases[position], slices[position], found.get(position)) for position in ordered)
    segmented = segment_stream(probability, wanted, settings)
    for done in tqdm(segmented, desc=title, total=len(slices), unit="case", disable=None, leave=False):
        yield done.wanted.position, done.wanted.slices, done.mask


def in_order(cases: Sequence[Case], positions: Iterable[int], settings: SegmentSettings) -> list[int]:
    """Positions of cases in the order in which they are segmented: those of one size, or padded to one, together."""
    sizes = {position: _size(*cases[position].image.shape[1:3], settings) for position in positions}
    place = {size: number for number, size in enumerate(dict.fromkeys(sizes.values()))}
    return sorted(sizes, key=lambda position: place[sizes[position]])


def segment_stream(
    probability: Probability | Logits,
    wanted: Iterable[Wanted],
    settings: SegmentSettings,
    *,
    keep_probabilities: bool = False,
) -> Iterator[Segmented]:
    """Segments one case after the other; draws no more of `wanted` than the batches under way need.

    Batches run across cases whose windows are of one size, or are padded to one: see `buckets`. How the answers to
    overlapping windows are put together is in `windows`.

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
            del one  # not held while the next one is read
        return
    probability = with_flips(probability, settings.flips)
    # Not a generator expression, which would hold a case while the next one is drawn.
    assemblies = map(functools.partial(Assembly, settings=settings, keep=keep_probabilities), wanted)
    pending: list[tuple[jax.Array, Batch]] = []
    for batch in _batches(assemblies, settings):
        if not batch:
            while pending:
                yield from _fetch(*pending.pop(0), settings)
            continue
        given = jax.device_put(_gather(batch, settings), settings.sharding)
        pending.append((probability(*given), batch))
        # While one batch is fetched, the next is being computed.
        if len(pending) == 2:
            yield from _fetch(*pending.pop(0), settings)
    for last in pending:
        yield from _fetch(*last, settings)


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
        keep_probabilities=keep,
        threshold=settings.threshold if at_threshold else None,
    )
    if probability is not None:
        probability = (probability[..., 1] if is_binary else probability)[wanted.slices]
    return Segmented(wanted, mask[wanted.slices].astype(np.uint8, copy=False), probability)


def whole_logits(
    logits: Logits, image: Float32[np.ndarray, "d h w c"], settings: SegmentSettings
) -> Float32[np.ndarray, "d h w k"]:
    """The logits of every voxel of a preprocessed image, on its grid; `settings` are those of a run on patches."""
    configuration = settings.plan.configuration
    return volume_logits(logits, image, configuration, _volume_settings(settings))


def _volume_settings(settings: SegmentSettings) -> VolumeSettings:
    return VolumeSettings(settings.batch_size, settings.sharding, settings.mirror_axes)


def _batches(assemblies: Iterable[Assembly], settings: SegmentSettings) -> Iterator[Batch]:
    """Windows in order; a batch ends where windows of another size or type begin.

    After a large case comes an empty batch: all of it is to be done before the next case is drawn.
    """
    batch, kind = [], None
    for assembly in assemblies:
        for window in assembly.windows:
            its = _kind(assembly, window, settings)
            if batch and (its != kind or len(batch) == settings.batch_size):
                yield batch
                batch = []
            batch.append((assembly, window))
            kind = its
        if assembly.wanted.case.image.nbytes >= LARGE:
            yield batch
            yield (batch := [])
            del assembly, window
    if batch:
        yield batch


def _kind(assembly: Assembly, window: Window, settings: SegmentSettings) -> tuple:
    """What windows of one batch have in common: their shape, type, and whether they are padded to it."""
    size, is_padded = _size(*window.size, settings)
    return (len(window.slices), *size, assembly.channels), assembly.wanted.case.image.dtype, is_padded


def _size(rows: int, columns: int, settings: SegmentSettings) -> tuple[tuple[int, int], bool]:
    """The rows and columns that a window of a slice of this size takes in a batch, and whether it is padded to them."""
    rows, columns = (min(length, settings.tile or length) for length in (rows, columns))
    side = buckets.padded(rows, columns, settings.image_size)
    return ((rows, columns), False) if side is None else ((side, side), True)


def _gather(batch: Batch, settings: SegmentSettings) -> tuple[np.ndarray, ...]:
    """The windows' pixels as one array; zeros where a slab, the batch or a window is not full.

    With padded windows, their rows and columns follow as a second array.
    """
    (slices, *rest), dtype, is_padded = _kind(*batch[0], settings)
    slab = [] if settings.slab is None else [slices]
    images = np.zeros((settings.batch_size, *slab, *rest), dtype)
    sizes = np.full((settings.batch_size, 2), rest[:2], np.int32)
    for place, (assembly, window) in enumerate(batch):
        part = assembly.cut(window)
        images[place][tuple(map(slice, part.shape))] = part
        sizes[place] = window.size
    return (images, sizes) if is_padded else (images,)


def _fetch(found: jax.Array, batch: Batch, settings: SegmentSettings) -> Iterator[Segmented]:
    for answer, (assembly, window) in zip(np.asarray(found), batch, strict=False):
        in_plane = tuple(map(slice, window.size))
        done = assembly.add(window, answer[in_plane] if settings.slab is None else answer[:, *in_plane])
        if done is not None:
            yield done

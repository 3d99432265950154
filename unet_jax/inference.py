"""Cases in, masks in the cases' own geometry out: the one path of validation, evaluation and prediction."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Float32, Int, UInt8

from unet_jax.data.case import Case
from unet_jax.data.pipeline import Slices, evaluation_batches, slab_start

# image [b, h, w, c] or, in 3-D, [b, d, h, w, c] → probability of tumour, float32, without c
Probability = Callable[[jax.Array], jax.Array]


def segment_cases(
    probability: Probability,
    cases: Sequence[Case],
    index: Int[np.ndarray, "n 2"],
    *,
    batch_size: int,
    slab: int | None,
    threshold: float,
    sharding: jax.sharding.Sharding,
) -> Iterator[tuple[int, Int[np.ndarray, " s"], UInt8[np.ndarray, "s h w"]]]:
    """The masks of the slices in `index`, a case at a time; the probabilities of one case are held at once.

    Batches run across the cases of one size. In 3-D a slice's probability is the mean over the slabs it lies in,
    weighted by a Gaussian around each slab's middle (nnU-Net: Isensee et al. 2021, supplementary note 4).

    Args:
        probability: the network, with its parameters.
        cases: where the slices are from, all with masks.
        index: (position in cases, slice) of each; the slices of a case stand together, in order.
        batch_size: slices, or slabs, at a time.
        slab: slices of a slab; None for a 2-D network.
        threshold: a pixel is tumour from this probability on.
        sharding: how a batch lies on the devices.

    Yields:
        the position in cases, the slices of that case in `index`, and their masks of 0 and 1.
    """
    wanted = {position: index[index[:, 0] == position, 1] for position in dict.fromkeys(index[:, 0].tolist())}
    sizes = {position: cases[position].image.shape[1:3] for position in wanted}
    # Each size by itself: padded to another, a slice would be segmented otherwise than alone.
    for size in dict.fromkeys(sizes.values()):
        middles = {
            position: slices if slab is None else _middles(len(cases[position].image), slab)
            for position, slices in wanted.items()
            if sizes[position] == size
        }
        windows = np.array([(position, middle) for position, its in middles.items() for middle in its])
        batches = evaluation_batches(Slices(cases, windows, slab), batch_size)
        results = _probabilities(probability, batches, sharding)
        for position, its in middles.items():
            depth = len(cases[position].image)
            total, weight = np.zeros((depth, *size), np.float32), np.zeros((depth, 1, 1), np.float32)
            for middle, found in zip(its, itertools.islice(results, len(its)), strict=True):
                _add_window(total, weight, int(middle), found, slab)
            slices = wanted[position]
            yield position, slices, (total[slices] >= threshold * weight[slices]).astype(np.uint8)


def _middles(depth: int, slab: int) -> list[int]:
    """Middles of slabs that cover a case, each half a slab on from the one before."""
    starts = [*range(0, max(depth - slab, 0), max(slab // 2, 1)), max(depth - slab, 0)]
    return [start + slab // 2 for start in starts]


def _probabilities(
    probability: Probability, batches: Iterable[dict], sharding: jax.sharding.Sharding
) -> Iterator[Float32[np.ndarray, "*window"]]:
    """The network's answer to each slice or slab; while one batch is fetched, the next is being computed."""
    pending: list[tuple[jax.Array, np.ndarray]] = []
    for batch in batches:
        pending.append((probability(jax.device_put(batch["image"], sharding)), batch["valid"]))
        if len(pending) == 2:
            yield from _fetch(*pending.pop(0))
    for last in pending:
        yield from _fetch(*last)


def _fetch(found: jax.Array, valid: np.ndarray) -> Float32[np.ndarray, "n *window"]:
    return np.asarray(found)[valid]


def _add_window(
    total: Float32[np.ndarray, "d h w"],
    weight: Float32[np.ndarray, "d 1 1"],
    middle: int,
    found: Float32[np.ndarray, "*window"],
    slab: int | None,
) -> None:
    """Adds a slice's or slab's probabilities to those of its case, in place."""
    if slab is None:
        total[middle] += found
        weight[middle] += 1
        return
    start = slab_start(middle, len(total), slab)
    inside = min(slab, len(total))
    # nnU-Net's width: an eighth of the window.
    gauss = np.exp(-0.5 * ((np.arange(slab) - (slab - 1) / 2) / (slab / 8)) ** 2).astype(np.float32)
    gauss = np.maximum(gauss, 1e-3)[:inside, None, None]
    total[start : start + inside] += gauss * found[:inside]
    weight[start : start + inside] += gauss

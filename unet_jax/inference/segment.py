"""Cases in, masks in the cases' own geometry out: the one path of validation, evaluation and prediction."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8

from unet_jax.data.case import Case
from unet_jax.inference.windows import Assembly, Segmented, Wanted, Window

# image [b, h, w, c] or, in 3-D, [b, d, h, w, c] → probability of the class, float32, without c; or, with several
# classes, those of background and classes in place of c
Probability = Callable[[jax.Array], jax.Array]

Batch = list[tuple[Assembly, Window]]


def segment_cases(
    probability: Probability,
    cases: Sequence[Case],
    index: Int[np.ndarray, "n 2"],
    *,
    batch_size: int,
    slab: int | None,
    threshold: float,
    sharding: jax.sharding.Sharding,
    tile: int | None = None,
    neighbours: int = 0,
) -> Iterator[tuple[int, Int[np.ndarray, " s"], UInt8[np.ndarray, "s h w"]]]:
    """`segment_stream` of the slices in `index`; cases of one size come together, so that batches are full.

    Args:
        probability: the network, with its parameters.
        cases: where the slices are from.
        index: (position in cases, slice) of each; the slices of a case stand together, in order.
        batch_size: see `segment_stream`.
        slab: likewise.
        threshold: likewise.
        sharding: likewise.
        tile: likewise.
        neighbours: likewise.

    Yields:
        the position in cases, the slices of that case in `index`, and their masks of 0 and 1, or of the numbers of
        several classes.
    """
    positions = list(dict.fromkeys(index[:, 0].tolist()))
    sizes = list(dict.fromkeys(cases[position].image.shape[1:3] for position in positions))
    positions.sort(key=lambda position: sizes.index(cases[position].image.shape[1:3]))
    wanted = (Wanted(position, cases[position], index[index[:, 0] == position, 1]) for position in positions)
    for done in segment_stream(
        probability,
        wanted,
        batch_size=batch_size,
        slab=slab,
        tile=tile,
        neighbours=neighbours,
        threshold=threshold,
        sharding=sharding,
    ):
        yield done.wanted.position, done.wanted.slices, done.mask


def segment_stream(
    probability: Probability,
    wanted: Iterable[Wanted],
    *,
    batch_size: int,
    slab: int | None,
    tile: int | None,
    threshold: float,
    sharding: jax.sharding.Sharding,
    neighbours: int = 0,
    keep_probabilities: bool = False,
) -> Iterator[Segmented]:
    """Segments one case after the other; drawn from `wanted` are no more than the batches under way need.

    Batches run across cases whose windows are of one size: padded to another, a slice would be segmented otherwise than
    alone. How the answers to overlapping windows are put together is in `windows`.

    Args:
        probability: the network, with its parameters.
        wanted: what to segment; it may be made on the way.
        batch_size: windows at a time; the last batch is filled up with zeros, so that there is one program a size.
        slab: slices of a slab; None for a 2-D network.
        tile: cuts what has more rows or columns than this into windows of that size; None segments whole slices.
        threshold: a pixel is of the only class from this probability on; of several, it is of the likeliest.
        sharding: how a batch lies on the devices.
        neighbours: slices on either side that go into a slice's channels, for a 2-D network.
        keep_probabilities: whether results have them.

    Yields:
        each case, in the order of `wanted`.
    """
    how = {"slab": slab, "tile": tile, "neighbours": neighbours, "threshold": threshold, "keep": keep_probabilities}
    assemblies = (Assembly(one, **how) for one in wanted)
    pending: list[tuple[jax.Array, Batch]] = []
    for batch in _batches(assemblies, batch_size):
        pending.append((probability(jax.device_put(_gather(batch, batch_size), sharding)), batch))
        # While one batch is fetched, the next is being computed.
        if len(pending) == 2:
            yield from _fetch(*pending.pop(0))
    for last in pending:
        yield from _fetch(*last)


def with_flips(probability: Probability, flips: Collection[str]) -> Probability:
    """The mean over the image as it is and flipped, each turned back.

    Args:
        probability: what is averaged.
        flips: "rows" (upside down), "columns" (left to right), or both, which also adds both at once; each doubles the
            work.
    """

    def averaged(image: jax.Array) -> jax.Array:
        axes_of = {"rows": image.ndim - 3, "columns": image.ndim - 2}
        several = [()]
        for name, axis in axes_of.items():
            several += [(*axes, axis) for axes in several if name in flips]
        return sum(jnp.flip(probability(jnp.flip(image, axes)), axes) for axes in several) / len(several)

    return averaged


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

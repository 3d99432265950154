"""Cases of several processes: each segments its share on its own devices, and what comes of them is gathered."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int, Int64

from unet_jax.data.case import Case
from unet_jax.data.slices import slices_by_case
from unet_jax.inference.segment import in_order
from unet_jax.inference.settings import SegmentSettings
from unet_jax.runtime import exchange

Found = TypeVar("Found")


def own_part(cases: Sequence[Case], index: Int[np.ndarray, "n 2"]) -> Int[np.ndarray, "m 2"]:
    """The slices of `index`, (position in cases, slice), that are this process's to segment: those of whole cases.

    Every process has about the same number of voxels.
    """
    if exchange.count() == 1:
        return index
    slices = slices_by_case(index)
    positions = list(slices)
    weights = [len(slices[position]) * int(np.prod(cases[position].image.shape[1:])) for position in positions]
    own = {positions[place] for place in exchange.share_of(weights)}
    return index[np.isin(index[:, 0], list(own))]


def by_position(found: Mapping[int, Found], order: Iterable[int]) -> dict[int, Found]:
    """What all processes found, by the position of its case, in the order in which one alone would have found it.

    Args:
        found: by this process; what JSON can hold.
        order: of the positions of all cases.
    """
    everything = {int(position): each for part in exchange.gather_json(dict(found)) for position, each in part.items()}
    return {position: everything[position] for position in order}


def all_counts(
    cases: Sequence[Case],
    index: Int[np.ndarray, "n 2"],
    own: Int[np.ndarray, "m 2"],
    counts: Int64[np.ndarray, "m 3"] | Int64[np.ndarray, "m k 3"],
    settings: SegmentSettings,
) -> tuple[Int[np.ndarray, "n 2"], Int64[np.ndarray, "n 3"] | Int64[np.ndarray, "n k 3"]]:
    """The counts of all slices of `index`, in the order of `segment_cases`, from those that this process counted.

    Args:
        cases: of the data set.
        index: (position in cases, slice) of all that was segmented.
        own: of what this process segmented, in the order of `counts`.
        counts: of these slices.
        settings: how they were segmented.
    """
    if exchange.count() == 1:
        return own, counts
    slices = slices_by_case(index)
    starts = np.flatnonzero(np.diff(own[:, 0], prepend=-1))
    parts = np.split(counts, starts[1:]) if len(starts) else []
    found = {position: part.tolist() for position, part in zip(own[starts, 0].tolist(), parts, strict=True)}
    order = in_order(cases, slices, settings)
    by_case = by_position(found, order)
    everything = np.concatenate([np.array(by_case[position], np.int64) for position in order])
    places = [(position, number) for position in order for number in slices[position].tolist()]
    return np.array(places, index.dtype), everything

"""Slices of cases, or slabs of them, copied straight out of memory maps into batches."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Int, UInt8

from unet_jax.data import labels, mapped
from unet_jax.data.case import Case
from unet_jax.errors import InputError
from unet_jax.wording import count


class Slices:
    """Slices of cases in one flat list, gathered into batches.

    Slices that differ in rows or columns are padded with zeros at the bottom and the right, to the largest of each. In
    3-D an element is a slab: neighbouring slices with the listed one in their middle, shifted to lie within the case,
    or padded with zeros at the end where the case has fewer. With neighbours, an image also has the channels of the
    slices around it: see `with_neighbours`.

    Attributes:
        index: (position in cases, slice) of each element.
        height: rows of every gathered slice, in pixels.
        width: columns of every gathered slice, in pixels.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        index: Int[np.ndarray, "n 2"] | None = None,
        slab: int | None = None,
        weigh: Callable[[np.ndarray], np.ndarray] | None = None,
        neighbours: int = 0,
    ):
        """Checks that the cases go together.

        Args:
            cases: at least one, all with masks.
            index: which slices, as `splits.slices_of` gives them; all slices of all cases by default.
            slab: slices of a slab; None for single slices, without an axis for them.
            weigh: maps a mask to pixel weights; None for none.
            neighbours: how many slices on either side become channels; for single slices only.

        Raises:
            InputError: a mask is missing, or the cases differ in channels or type.
        """
        without = [case.name for case in cases if case.mask is None]
        if without:
            raise InputError(f"{', '.join(without)}: these cases have no mask, and batches need one.")
        kinds = {}
        for case in cases:
            kinds.setdefault(f"{count(case.image.shape[3], 'channel')} of {case.image.dtype}", []).append(case.name)
        if len(kinds) > 1:
            raise InputError(
                "\n".join(f"{kind}: {', '.join(names)}." for kind, names in kinds.items())
                + "\nAll cases must have the same channels and type: leave the others out."
            )
        if index is None:
            index = all_slices(cases)
        self.index = index.astype(np.int32)
        sizes = [cases[position].image.shape[1:3] for position in np.unique(index[:, 0])]
        self.height, self.width = (max(axis) for axis in zip(*sizes, strict=True))
        self._mixed = len(set(sizes)) > 1
        self._slab = slab
        self._weigh = weigh
        self._neighbours = neighbours
        # Plain arrays: indexing an np.memmap costs several times as much.
        self._images = [np.asarray(case.image) for case in cases]
        self._masks = [np.asarray(case.mask) for case in cases]

    def __len__(self):
        return len(self.index)

    def gather(self, positions: Sequence[int] | Int[np.ndarray, " b"]) -> dict[str, np.ndarray]:
        """Copies the slices at these positions of `index` into one batch.

        Returns:
            image [b, height, width, channels · (1 + 2 · neighbours)] in the cases' own type; mask, uint8 [b, height,
            width]; case (position in cases) and slice, int32 [b] each. Slabs have an axis of slices after b. With
            `weigh` also weights, float32 in the mask's shape. Where the listed slices differ in size, also size, int32
            [b, 2]: the rows and columns of each.
        """
        chosen = self.index[np.asarray(positions, np.int64)]
        first = self._images[0]
        shape = (len(chosen), *([self._slab] if self._slab else []), self.height, self.width)
        image = np.zeros((*shape, first.shape[3] * (1 + 2 * self._neighbours)), first.dtype)
        mask = np.zeros(shape, np.uint8)
        for row, (case, number) in enumerate(chosen.tolist()):
            depth, height, width, _ = self._images[case].shape
            slices, filled = number, (row, slice(height), slice(width))
            if self._slab:
                start = slab_start(number, depth, self._slab)
                slices = slice(start, start + self._slab)
                filled = (row, slice(min(depth, self._slab)), slice(height), slice(width))
            whole = self._images[case]
            image[filled] = with_neighbours(whole, number, self._neighbours) if self._neighbours else whole[slices]
            mask[filled] = self._masks[case][slices]
        batch = {"image": image, "mask": mask, "case": chosen[:, 0], "slice": chosen[:, 1]}
        if self._mixed:
            batch["size"] = np.array([self._images[case].shape[1:3] for case in chosen[:, 0].tolist()], np.int32)
        if self._weigh is not None:
            batch["weights"] = np.stack([self._weigh(one) for one in labels.without_ignored(mask)])
        return batch

    def named(self, positions: Sequence[int] | Int[np.ndarray, " b"]) -> dict[str, np.ndarray]:
        """What `gather` copies, without the pixels: position in `index`, case and slice, int32 [b] each."""
        chosen = np.asarray(positions, np.int32)
        return {"position": chosen, "case": self.index[chosen, 0], "slice": self.index[chosen, 1]}

    def with_tumour(self) -> Int[np.ndarray, " m"]:
        """The positions in `index` of slices with tumour."""
        found = [labels.without_ignored(mask).any((1, 2)) for mask in self._masks]
        return np.flatnonzero([found[case][number] for case, number in self.index.tolist()])

    def __getstate__(self):
        state = self.__dict__.copy()
        for name in ("_images", "_masks"):
            state[name] = mapped.by_name(state[name])
        return state

    def __setstate__(self, state):
        for name in ("_images", "_masks"):
            state[name] = mapped.arrived(state[name])
        self.__dict__.update(state)


def all_slices(cases: Sequence[Case]) -> Int[np.ndarray, "n 2"]:
    """Every slice of every case as (position in cases, slice)."""
    return np.array([(i, number) for i, case in enumerate(cases) for number in range(len(case.image))], np.int32)


def slices_by_case(index: Int[np.ndarray, "n 2"]) -> dict[int, Int[np.ndarray, " s"]]:
    """The slices of each case in an index of (position in cases, slice), where those of a case stand together."""
    if not len(index):
        return {}
    starts = np.flatnonzero(np.diff(index[:, 0], prepend=-1))
    return dict(zip(index[starts, 0].tolist(), np.split(index[:, 1], starts[1:]), strict=True))


def slab_start(middle: int, depth: int, slab: int) -> int:
    """The first slice of the slab around slice `middle` of a case of `depth` slices."""
    return min(max(middle - slab // 2, 0), max(depth - slab, 0))


def with_neighbours(
    image: UInt8[np.ndarray, "d h w c"] | Float32[np.ndarray, "d h w c"], number: int, neighbours: int
) -> UInt8[np.ndarray, "h w k"] | Float32[np.ndarray, "h w k"]:
    """Slice `number` with `neighbours` slices on either side as further channels, the lowest slice first.

    The first and the last slice are repeated beyond the ends. Training, scoring and prediction all call this.
    """
    wanted = np.clip(np.arange(number - neighbours, number + neighbours + 1), 0, len(image) - 1)
    channels = image.shape[-1]
    result = np.empty((*image.shape[1:3], channels * len(wanted)), image.dtype)
    for place, one in enumerate(wanted.tolist()):
        # Channel by channel: numpy copies runs of a few bytes six times as slowly.
        for channel in range(channels):
            result[..., place * channels + channel] = image[one, ..., channel]
    return result

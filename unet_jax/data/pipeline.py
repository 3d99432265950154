"""Cases to batches of slices: grain walks the steps, numpy copies each batch straight out of memory maps."""

import contextlib
import functools
import mmap
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker

import grain
import numpy as np
from jaxtyping import Float32, Int, UInt8

from unet_jax.data.case import Case
from unet_jax.errors import InputError, RunError, StuckError


class Slices:
    """Slices of cases in one flat list, gathered into batches.

    Where the listed slices differ in rows or columns, they are padded with zeros at the bottom and the right, to the
    largest of each. In 3-D an element is a slab: as many neighbouring slices with the listed one in their middle, moved
    to lie within the case, or padded with zeros at its end where the case has fewer. With neighbours, an image has the
    channels of the slices around it too: see `with_neighbours`.

    Attributes:
        index: position in cases, slice; one row an element.
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
            weigh: makes pixel weights of a mask; None for none.
            neighbours: how many slices on either side go into the channels; of single slices only.

        Raises:
            InputError: a mask is missing, or cases differ in channels or type.
        """
        without = [case.name for case in cases if case.mask is None]
        if without:
            raise InputError(f"{', '.join(without)}: these cases have no mask, and batches need one.")
        kinds = {}
        for case in cases:
            kinds.setdefault(f"{case.image.shape[3]} channels of {case.image.dtype}", []).append(case.name)
        if len(kinds) > 1:
            raise InputError(
                "\n".join(f"{kind}: {', '.join(names)}." for kind, names in kinds.items())
                + "\nAll cases must have the same channels and type: leave the others out."
            )
        if index is None:
            index = np.concatenate([[(i, s) for s in range(len(case.image))] for i, case in enumerate(cases)])
        self.index = index.astype(np.int32)
        sizes = [cases[position].image.shape[1:3] for position in np.unique(index[:, 0])]
        self.height, self.width = (max(axis) for axis in zip(*sizes, strict=True))
        self._slab = slab
        self._weigh = weigh
        self._neighbours = neighbours
        self._images = [case.image for case in cases]
        self._masks = [case.mask for case in cases]

    def __len__(self):
        return len(self.index)

    def gather(self, positions: Sequence[int] | Int[np.ndarray, " b"]) -> dict[str, np.ndarray]:
        """Copies the slices at these positions of `index` into one batch.

        Returns:
            image [b, height, width, channels · (1 + 2 · neighbours)] in the cases' own type, mask uint8 [b, height,
            width] of the cases' numbers, case (position in cases) and slice, int32 [b] each. Slabs have their slices
            between b and height. With `weigh`, also weights, float32 like the mask.
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
            # A view as a plain array: indexing a memory map costs several times as much.
            whole = np.asarray(self._images[case])
            image[filled] = with_neighbours(whole, number, self._neighbours) if self._neighbours else whole[slices]
            mask[filled] = np.asarray(self._masks[case])[slices]
        batch = {"image": image, "mask": mask, "case": chosen[:, 0], "slice": chosen[:, 1]}
        if self._weigh is not None:
            batch["weights"] = np.stack([self._weigh(one) for one in mask])
        return batch

    def with_tumour(self) -> Int[np.ndarray, " m"]:
        """The positions in `index` of slices whose mask is not empty."""
        found = [np.asarray(mask).any((1, 2)) for mask in self._masks]
        return np.flatnonzero([found[case][number] for case, number in self.index.tolist()])

    def __getstate__(self):
        state = self.__dict__.copy()
        for name in ("_images", "_masks"):
            state[name] = [_opener(array) for array in state[name]]
        return state

    def __setstate__(self, state):
        for name in ("_images", "_masks"):
            state[name] = [open_array() for open_array in state[name]]
        self.__dict__.update(state)


def slab_start(middle: int, depth: int, slab: int) -> int:
    """The first slice of the slab around slice `middle` of a case of `depth` slices."""
    return min(max(middle - slab // 2, 0), max(depth - slab, 0))


def with_neighbours(
    image: UInt8[np.ndarray, "d h w c"] | Float32[np.ndarray, "d h w c"], number: int, neighbours: int
) -> UInt8[np.ndarray, "h w k"] | Float32[np.ndarray, "h w k"]:
    """Slice `number` between so many others on either side, their channels one after the other, the lowest slice first.

    Beyond the first and the last slice, that one is repeated. The one place where it is done, for training, scoring and
    prediction.
    """
    wanted = np.clip(np.arange(number - neighbours, number + neighbours + 1), 0, len(image) - 1)
    channels = image.shape[-1]
    result = np.empty((*image.shape[1:3], channels * len(wanted)), image.dtype)
    for place, one in enumerate(wanted.tolist()):
        # Channel by channel: numpy copies runs of a few bytes six times as slowly.
        for channel in range(channels):
            result[..., place * channels + channel] = image[one, ..., channel]
    return result


def steps_per_epoch(slices: int, batch_size: int, shards: int = 1) -> int:
    """Whole batches in one pass over so many slices; the slices left over change from epoch to epoch.

    Raises:
        InputError: not one batch can be filled, or the shards cannot share a batch evenly.
    """
    if batch_size < 1 or batch_size % shards:
        raise InputError(
            f"config.train.batch_size={batch_size}: it must be a multiple of {shards}, the number of "
            "processes that share each batch."
        )
    if slices < batch_size:
        raise InputError(
            f"config.train.batch_size={batch_size}: there are only {slices} slices to train on: lower it, or add cases."
        )
    return slices // batch_size


def training_batches(
    slices: Slices,
    *,
    batch_size: int,
    seed: int,
    epochs: int,
    start_step: int = 0,
    shard: int = 0,
    shards: int = 1,
    workers: int = 0,
    tumour_share: float = 0.0,
) -> grain.IterDataset:
    """Shuffled batches, in a new order each epoch; no slice comes twice in an epoch.

    The batch of a step is a function of the slices, batch_size, seed and step alone. So the stream from
    `start_step` on is the rest of the whole one to the bit, for any number of workers; and the batches of all
    shards, one after the other, are the batch that a single shard would get.

    Args:
        slices: the training side.
        batch_size: slices a step, over all shards.
        seed: of the order; any integer from 0.
        epochs: passes over the slices.
        start_step: steps to leave out, counted from the first epoch.
        shard: which part of each batch to gather; the process's number.
        shards: into how many parts a batch is cut; the number of processes.
        workers: processes that gather ahead of time; 0 gathers in this one, which is faster on few cores.
            More need absl's flags to be parsed, as they are in a program run by `absl.app`.
        tumour_share: share of each batch, its end, that is drawn anew from the slices with tumour instead
            (nnU-Net takes a third; Isensee et al. 2021, supplementary note 4).

    Returns:
        Batches as `Slices.gather` makes them, of batch_size / shards slices.

    Raises:
        InputError: as `steps_per_epoch`.
    """
    steps = steps_per_epoch(len(slices), batch_size, shards)
    share = batch_size // shards
    part = slice(shard * share, (shard + 1) * share)
    count = round(tumour_share * batch_size)
    tumour = slices.with_tumour() if count else np.zeros(0, np.int64)
    if count and not len(tumour):
        raise InputError(f"config.data.tumour_share={tumour_share}: no slice to train on has tumour: set it to 0.")
    # Not grain's own shuffle and batch: they cost 37 microseconds a slice, more than copying it does, and
    # draw epoch e of seed s as epoch 0 of seed s + e.
    batches = (
        grain.MapDataset.range(start_step, epochs * steps)
        .map(functools.partial(_batch_at, slices, batch_size, part, seed, tumour, count))
        .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    )
    if workers:
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_end_with_parent
        )
    return batches


def stream(batches: grain.IterDataset) -> Iterator[dict[str, np.ndarray]]:
    """The batches; when it is closed, and however else it ends, its worker processes end too.

    Workers get neither SIGTERM nor SIGINT, which a terminal or a scheduler sends to the whole group of processes: the
    training process decides when they are done.

    Raises:
        RunError: as gathering raises it.
        StuckError: a worker died, or gathering failed otherwise.
    """
    before = set(multiprocessing.active_children())
    iterator = iter(batches)
    try:
        with _held_back(signal.SIGTERM, signal.SIGINT):
            batch = next(iterator, None)
        while batch is not None:
            yield batch
            batch = next(iterator, None)
    except RunError:
        raise
    except Exception as error:
        raise StuckError(
            f"The next batch cannot be made ({type(error).__name__}: {error}): see that the files can be read and that "
            "memory suffices, then give the same command again."
        ) from error
    finally:
        iterator.close()
        # Those that grain had started and not yet used.
        for worker in set(multiprocessing.active_children()) - before:
            worker.kill()
            worker.join()


@contextlib.contextmanager
def _held_back(*signals: int) -> Iterator[None]:
    """Processes that are started within never get these signals; this one gets them late, or in another thread."""
    # Python starts this helper with the first process, and then lets the signals through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(index: int, count: int) -> None:
    """In a worker: ends it when the training process is gone, which may have been killed."""
    del index, count

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _batch_at(
    slices: Slices,
    batch_size: int,
    part: slice,
    seed: int,
    tumour: Int[np.ndarray, " m"],
    count: int,
    step: int,
) -> dict[str, np.ndarray]:
    epoch, step_in_epoch = divmod(step, len(slices) // batch_size)
    start = step_in_epoch * batch_size
    positions = _order(len(slices), seed, epoch)[start : start + batch_size]
    if count:
        drawn = np.random.default_rng((seed, epoch, step)).choice(tumour, count)
        positions = np.concatenate([positions[: batch_size - count], drawn])
    return slices.gather(positions[part])


@functools.lru_cache(maxsize=4)
def _order(length: int, seed: int, epoch: int) -> Int[np.ndarray, " length"]:
    return np.random.default_rng((seed, epoch)).permutation(length)


def evaluation_batches(slices: Slices, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Every slice once, in order, in batches of one size.

    Yields:
        Batches as `Slices.gather` makes them, with valid, bool [b]: False in the zeros that fill up the last.
    """
    for start in range(0, len(slices), batch_size):
        batch = slices.gather(np.arange(start, min(start + batch_size, len(slices))))
        count = len(batch["image"])
        batch["valid"] = np.ones(count, bool)
        yield {
            name: np.pad(array, [(0, batch_size - count)] + [(0, 0)] * (array.ndim - 1))
            for name, array in batch.items()
        }


def _opener(array: np.ndarray) -> Callable[[], np.ndarray]:
    """Makes the array anew in a worker process; a memory map by its file's name, which spares its pixels."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):
        return functools.partial(np.memmap, array.filename, array.dtype, "r", array.offset, array.shape)
    return functools.partial(np.asarray, array)

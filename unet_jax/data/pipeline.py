"""Cases to batches of slices: grain walks the steps, numpy gathers each batch."""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker

import numpy as np
from jaxtyping import Int

from unet_jax.data.slices import Slices
from unet_jax.errors import InputError, RunError, StuckError
from unet_jax.wording import count

Batch = dict[str, np.ndarray]


def steps_per_epoch(slices: int, batch_size: int, shards: int = 1) -> int:
    """Whole batches in one pass over the slices; those left over change from epoch to epoch.

    Raises:
        InputError: the slices do not fill a batch, or the shards cannot share one evenly.
    """
    check_shards(batch_size, shards)
    if slices < batch_size:
        raise InputError(
            f"config.train.batch_size={batch_size}: the training side has {count(slices, 'slice')}: lower it, or add "
            "cases."
        )
    return slices // batch_size


def check_shards(batch_size: int, shards: int) -> None:
    """Raises InputError unless so many processes can share a batch evenly."""
    if batch_size < 1 or batch_size % shards:
        raise InputError(
            f"config.train.batch_size={batch_size}: it must be a multiple of {shards}, the number of "
            "processes that share each batch."
        )


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
    gathered: bool = True,
) -> Iterable[Batch]:
    """Shuffled batches, in a new order each epoch.

    No slice is in two batches of an epoch, or twice in one, unless it is among those drawn for `tumour_share`, which
    may repeat. A batch is a function of the slices, batch_size, tumour_share, seed and step. So the stream from
    `start_step` is the rest of the whole one to the bit, for any number of workers; and the batches of all shards,
    concatenated, are the batch that a single shard would get.

    Args:
        slices: the training side.
        batch_size: slices a step, over all shards.
        seed: of the order; any integer from 0.
        epochs: passes over the slices.
        start_step: steps to skip, counted from the first epoch.
        shard: which part of each batch to gather; the process's number.
        shards: into how many parts a batch is cut; the number of processes.
        workers: processes that gather ahead of time; 0 gathers in this one, which is faster on few cores.
            Others need absl's flags to be parsed, as they are in a program run by `absl.app`.
        tumour_share: from 0 to 1. The last `round(tumour_share * batch_size)` slices of each batch (a half rounds to
            the even number) are replaced by slices with tumour, drawn with replacement. nnU-Net takes a third
            (Isensee et al. 2021, supplementary note 4).
        gathered: whether batches have their pixels; else they say whose they would be, as `Slices.named` does.

    Returns:
        Batches as `Slices.gather` or `Slices.named` makes them, of batch_size / shards slices.

    Raises:
        InputError: as `steps_per_epoch`; or no slice has tumour, and some should be drawn.
    """
    if not 0 <= tumour_share <= 1:
        raise InputError(f"config.data.tumour_share={tumour_share}: it must be from 0 to 1.")
    steps = steps_per_epoch(len(slices), batch_size, shards)
    rows = share_of(batch_size, shard, shards)
    part = slice(rows.start, rows.stop)
    replaced = round(tumour_share * batch_size)
    tumour = slices.with_tumour() if replaced else np.zeros(0, np.int64)
    if replaced and not len(tumour):
        raise InputError(f"config.data.tumour_share={tumour_share}: no slice to train on has tumour: set it to 0.")
    # Not grain's own shuffle and batch: they cost 37 microseconds a slice, more than copying it does, and
    # draw epoch e of seed s as epoch 0 of seed s + e.
    make = slices.gather if gathered else slices.named
    batch_at = functools.partial(_batch_at, make, len(slices), batch_size, part, seed, tumour, replaced)
    return batches_of_steps(batch_at, range(start_step, epochs * steps), workers)


def batches_of_steps(batch_at: Callable[[int], Batch], steps: range, workers: int = 0) -> Iterable[Batch]:
    """The batches of steps, one after the other.

    Args:
        batch_at: gives the batch of a step, counted from 0; it is sent to the workers.
        steps: which.
        workers: see `training_batches`.
    """
    import grain  # here: it imports orbax, for which prediction need not wait

    batches = (
        grain.MapDataset.range(steps.start, steps.stop)
        .map(batch_at)
        .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    )
    if workers:
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_end_with_parent
        )
    return batches


def share_of(batch_size: int, shard: int, shards: int) -> range:
    """Which rows of each batch a shard gathers, of those that share it evenly."""
    share = batch_size // shards
    return range(shard * share, (shard + 1) * share)


def stream(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches; however the stream ends, its worker processes end with it.

    Workers get neither SIGTERM nor SIGINT, which a terminal or a scheduler sends to the whole group of processes: the
    training process decides when they stop.

    Raises:
        RunError: gathering raised it.
        StuckError: a worker died, or gathering failed in another way.
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
            f"The next batch cannot be made ({type(error).__name__}: {error}): check that the files can be read and "
            "that memory suffices, then run the same command again."
        ) from error
    finally:
        iterator.close()
        # Those that grain had started and not yet used.
        for worker in set(multiprocessing.active_children()) - before:
            worker.kill()
            worker.join()


@contextlib.contextmanager
def _held_back(*signals: int) -> Iterator[None]:
    """Processes started within never get these signals; this one gets them afterwards, or in another thread."""
    # Python starts this helper with the first process, and unblocks the signals when it does.
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
    make: Callable[[Int[np.ndarray, " b"]], Batch],
    length: int,
    batch_size: int,
    part: slice,
    seed: int,
    tumour: Int[np.ndarray, " m"],
    replaced: int,
    step: int,
) -> Batch:
    epoch, step_in_epoch = divmod(step, length // batch_size)
    start = step_in_epoch * batch_size
    positions = _order(length, seed, epoch)[start : start + batch_size]
    if replaced:
        drawn = np.random.default_rng((seed, epoch, step)).choice(tumour, replaced)
        positions = np.concatenate([positions[: batch_size - replaced], drawn])
    return make(positions[part])


@functools.lru_cache(maxsize=4)
def _order(length: int, seed: int, epoch: int) -> Int[np.ndarray, " length"]:
    return np.random.default_rng((seed, epoch)).permutation(length)

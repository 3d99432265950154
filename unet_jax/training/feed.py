"""How batches come to the devices: one after the other or several together, in turn with the steps or ahead of them."""

import contextlib
import dataclasses
import functools
import itertools
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32
from ml_collections import ConfigDict

from unet_jax.data import pipeline
from unet_jax.errors import InputError
from unet_jax.runtime.mesh import global_batch
from unet_jax.training import resident
from unet_jax.training.samples import Samples
from unet_jax.training.step import ON_DEVICE

Item = TypeVar("Item")
# What config.data.ahead = None means on an accelerator.
AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Fed:
    """The batches of a program of one or several steps.

    Attributes:
        on_device: what the program sees: of one step [b, ...] each, of several [steps, b, ...].
        seen: of each step, whose slices or patches they are (positions in the data, [b]), and which: the slices, or
            the first voxels of the patches.
    """

    on_device: dict[str, jax.Array]
    seen: Sequence[tuple[Int32[np.ndarray, " b"], Int32[np.ndarray, " b"] | Int32[np.ndarray, "b 3"]]]

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.seen)


def check(config: ConfigDict) -> None:
    """Raises InputError unless batches can come as the config says."""
    ahead = config.data.ahead
    if ahead is not None and ahead < 0:
        raise InputError(f"config.data.ahead is {ahead}; it must be at least 0, or None for what suits the device.")
    resident.check(config.data.resident, has_patches=config.data.patch is not None)


@contextlib.contextmanager
def opened(
    config: ConfigDict, sampled: Samples, mesh: Mesh, done: int, counts: Iterator[int]
) -> Iterator[Iterator[Fed]]:
    """The batches of a run after `done` steps; threads and worker processes end with the block.

    A batch is a function of its step. So a run that resumes needs to know no more than how many steps were done, and
    those that were sent ahead of a stop are made again.

    Args:
        config: with every key.
        sampled: the training side.
        mesh: the devices.
        done: steps before.
        counts: steps of each program: see `dispatch.counts`.

    Raises:
        RunError: making a batch raised it, in whatever thread or process.
        StuckError: a worker process died, or making a batch failed in another way.
    """
    if resident.is_wanted(config.data.resident, sampled.slices):
        batches, send = sampled.positions(done), resident.gathering(resident.upload(sampled.slices, mesh), mesh)
    else:
        batches, send = sampled.batches(done), functools.partial(sent, mesh=mesh)
    ahead = _ahead() if config.data.ahead is None else config.data.ahead
    with contextlib.closing(pipeline.stream(batches)) as stream:
        feed = fed(stream, counts, send)
        with contextlib.closing(drawn_ahead(feed, ahead) if ahead else feed) as drawn:
            yield drawn


def _ahead() -> int:
    """For None: on a CPU there is nowhere to send a batch, and the thread takes time from the step."""
    return 0 if jax.default_backend() == "cpu" else AHEAD


def fed(
    batches: Iterator[dict[str, np.ndarray]],
    counts: Iterator[int],
    send: Callable[[Sequence[dict[str, np.ndarray]]], dict[str, jax.Array]],
) -> Generator[Fed, None, None]:
    """The batches of one program after the other; ends with `batches` or `counts`.

    Args:
        batches: on the host, one a step.
        counts: steps of each program.
        send: makes of their batches what the devices get.
    """
    for count in counts:
        several = list(itertools.islice(batches, count))
        if len(several) < count:
            return
        seen = [(batch["case"], batch["slice"] if "slice" in batch else batch["place"]) for batch in several]
        yield Fed(send(several), seen)


def sent(batches: Sequence[dict[str, np.ndarray]], mesh: Mesh) -> dict[str, jax.Array]:
    """The batches of one or several steps on the devices."""
    keys = [key for key in batches[0] if key in ON_DEVICE]
    if len(batches) == 1:
        return global_batch({key: batches[0][key] for key in keys}, mesh)
    return global_batch({key: np.stack([batch[key] for batch in batches]) for key in keys}, mesh, several=True)


def drawn_ahead(items: Generator[Item, None, None], most: int) -> Generator[Item, None, None]:
    """The same items, drawn by a thread, at most `most` of them before they are asked for.

    What drawing raises is raised here, as itself and in its place. Closing ends the thread, and closes `items`.
    """
    ready: queue.SimpleQueue = queue.SimpleQueue()
    room, is_over = threading.Semaphore(most), threading.Event()

    def draw() -> None:
        try:
            while True:
                room.acquire()
                if is_over.is_set():
                    return
                ready.put((next(items), None))
        except BaseException as error:  # StopIteration too: the end comes in its place
            ready.put((None, error))

    thread = threading.Thread(target=draw, daemon=True, name="batches ahead")
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield item
    finally:
        is_over.set()
        room.release()
        thread.join()
        items.close()

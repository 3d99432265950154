"""All cases of a data set, preprocessed once: in parallel, within a budget of memory, and kept as memory maps.

Each case is a folder of `data.pools` of its own, named by what it is made of: the content of the case's files and the
settings. So a run that was killed resumes where it stopped, and one changed file costs one case; in one folder for all
of them, as decoded cases have it, neither would.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Integer
from tqdm import tqdm

from unet_jax.data import pool_arrays, pool_index, pools, verified
from unet_jax.data.verified import Verified
from unet_jax.errors import DamageError, InputError
from unet_jax.files import replace_folder
from unet_jax.plan import foreground
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.fingerprint import spacing_of
from unet_jax.plan.foreground import Key
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.preprocess import Geometry, preprocess
from unet_jax.plan.previous_masks import PreviousMask
from unet_jax.plan.sources import Opened, Source
from unet_jax.runtime import exchange
from unet_jax.runtime.lock import lock_folder

LAYOUT = "image, mask and locations of a case in pools, version 2"
MOST_WORKERS = 8
# Of the machine's memory, what cases under way may take together.
MEMORY_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class PreparedCase:
    """A preprocessed case on disk. Axes stand in the plan's order.

    It keeps nothing open: each array is mapped when it is asked for, and a case can be sent to another process.

    Attributes:
        name: the case's.
        geometry: the way back to its files.
        shape: of the image, without channels.
        classes: the labels and regions that `locations` knows.
        folder: where it is.
        record: what is there.
        previous: for the second network of a cascade, the first one's mask: `channels` has it after the image's own.
    """

    name: str
    geometry: Geometry
    shape: tuple[int, int, int]
    classes: tuple[Key, ...]
    folder: Path
    record: pool_index.Record
    previous: PreviousMask | None = None

    @property
    def channels(self) -> Float32[np.ndarray, "d h w c"]:
        """What the network sees of the whole case."""
        return self.image if self.previous is None else np.concatenate([self.image, self.previous.channels()], axis=-1)

    @property
    def image(self) -> Float32[np.ndarray, "d h w c"]:
        """Normalised and resampled; a read-only memory map."""
        return self._open("image")

    @property
    def mask(self) -> Integer[np.ndarray, "d h w"]:
        """Labels, and -1 outside of the body; a read-only memory map."""
        return self._open("mask")

    def locations(self, key: Key) -> Int32[np.ndarray, "n 3"]:
        """Voxels of a class or region, none if it is not there; a read-only memory map."""
        found = self._open(f"locations {key}")
        return np.zeros((0, 3), np.int32) if found is None else found

    def count(self, key: Key) -> int:
        """How many locations there are."""
        place = self.record.places[f"locations {key}"]
        return 0 if place is None else place.shape[0]

    def _open(self, name: str) -> pool_arrays.Array | None:
        return pools.open_arrays(self.folder, [self.record])[0][name]


def prepare(
    sources: Sequence[Source],
    dataset: Dataset,
    plans: Plans,
    configuration: Configuration,
    cache: Path,
    *,
    workers: int | None = None,
    memory: int | None = None,
) -> list[PreparedCase]:
    """Preprocesses cases for one configuration, or takes from the cache those whose files and settings are the same.

    What is taken is verified, unless it was before and did not change since: see `data.verified`. A damaged case is
    made again, and a line on stderr says so. Of several commands, one at a time fills the cache; the others wait, and
    find there what it made. Of several processes of one run, each makes its share.

    Args:
        sources: of the cases, with masks: see `sources`.
        dataset: their labels.
        plans: the plan.
        configuration: one of `plans`.
        cache: the folder for preprocessed cases, made if missing.
        workers: threads; by default one a processor, MOST_WORKERS at most.
        memory: bytes that the cases under way may take together, by an estimate; a case that needs more runs alone. By
            default half of the machine's.

    Returns:
        The cases, in their order.

    Raises:
        InputError: a case cannot be preprocessed; all such are listed, and the others are in the cache.
        StorageError: the disk is full, read-only or failing.
    """
    settings = _settings(dataset, plans, configuration)
    budget = _Budget(memory or int(MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))

    def prepare_one(source: Source) -> PreparedCase | InputError:
        try:
            return _prepared(source, dataset, plans, configuration, settings, cache, budget, known)
        except InputError as error:
            return error

    threads = functools.partial(
        concurrent.futures.ThreadPoolExecutor, workers or min(MOST_WORKERS, os.cpu_count() or 1)
    )
    with _lock(cache):
        known = verified.read(cache, cache)
        try:
            if exchange.count() > 1:
                own = [sources[position] for position in exchange.share_of([1] * len(sources))]
                _each(threads, prepare_one, own)
                exchange.barrier()
            found = _each(threads, prepare_one, sources)
        finally:
            known.save()
    faults = [str(case) for case in found if isinstance(case, InputError)]
    if faults:
        raise InputError("\n".join(faults))
    return found


@contextlib.contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """Keeps other commands out of the cache: of several processes of one run, the first one does it for all."""
    with lock_folder(cache, wait=True) if exchange.index() == 0 else contextlib.nullcontext():
        exchange.barrier()
        yield
        exchange.barrier()


def _each(
    threads: Callable[[], concurrent.futures.Executor], work: Callable[[Source], Any], sources: Sequence[Source]
) -> list:
    pool = threads()
    try:
        bar = tqdm(pool.map(work, sources), "preprocessing", len(sources), unit="case", disable=None, delay=1)
        return list(bar)
    finally:
        pool.shutdown(cancel_futures=True)


def _prepared(
    source: Source,
    dataset: Dataset,
    plans: Plans,
    configuration: Configuration,
    settings: str,
    cache: Path,
    budget: "_Budget",
    known: Verified,
) -> PreparedCase:
    opened = source.open()
    key = hashlib.sha256(json.dumps([settings, source.name, opened.content]).encode()).hexdigest()
    folder = cache / f"{key}.case"
    record = _whole(folder, known)
    if record is None:
        with budget.taken(_peak_bytes(opened, plans, configuration, dataset)):
            record = _made(opened, dataset, plans, configuration, folder)
    facts = record.facts
    geometry = Geometry(*(_tuple(facts[field.name]) for field in dataclasses.fields(Geometry)))
    return PreparedCase(source.name, geometry, record.places["mask"].shape, _tuple(facts["classes"]), folder, record)


def _made(
    opened: Opened, dataset: Dataset, plans: Plans, configuration: Configuration, folder: Path
) -> pool_index.Record:
    case = opened.load()
    found = preprocess(case.image, case.mask, spacing_of(case), plans, configuration)
    del case
    classes = foreground.classes(dataset)
    voxels = foreground.locations(found.mask, classes)
    arrays = {"image": found.image, "mask": found.mask}
    arrays |= {f"locations {key}": voxels[key] if len(voxels[key]) else None for key in classes}
    with replace_folder(folder) as unfinished:
        pools.write(unfinished, [({"classes": classes, **dataclasses.asdict(found.geometry)}, arrays)])
    [record] = pool_index.read(folder)
    return record


def _whole(folder: Path, known: Verified) -> pool_index.Record | None:
    """What is in the cache, verified; None where there is nothing, or nothing whole."""
    if not folder.is_dir():
        return None
    with contextlib.suppress(DamageError):
        records = pool_index.read(folder)
        if not pools.damaged(folder, records, known):
            return records[0]
    print(f"{folder} is damaged: it is made again.", file=sys.stderr, flush=True)
    return None


def _settings(dataset: Dataset, plans: Plans, configuration: Configuration) -> str:
    """All that the arrays of a case depend on beside its files."""
    names = ("spacing", "normalisation", "inside_only", "images", "masks")
    return json.dumps(
        {
            "layout": LAYOUT,
            "transpose": plans.transpose_forward,
            "reader": plans.reader,
            "intensities": [dataclasses.asdict(channel) for channel in plans.intensities],
            "channels": len(dataset.channels),
            "labels": dataset.labels,
            **{name: _plain(getattr(configuration, name)) for name in names},
        }
    )


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value


def _tuple(value: Any) -> Any:
    return tuple(_tuple(each) for each in value) if isinstance(value, list) else value


class _Budget:
    """Bytes that are taken and given back by threads, which wait while there are too few."""

    def __init__(self, limit: int):
        self._limit = limit
        self._used = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, count: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + count <= self._limit)
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()


def _peak_bytes(opened: Opened, plans: Plans, configuration: Configuration, dataset: Dataset) -> int:
    """An estimate of what preprocessing a case takes."""
    shape, spacing = opened.shape, opened.spacing
    old = int(np.prod(shape, dtype=np.int64))
    order = plans.transpose_forward
    # Slices keep their distance.
    target = (spacing[order[0]], *configuration.spacing)[-3:]
    new = (
        int(old * np.prod([spacing[axis] for axis in order]) / np.prod(target)) if configuration.images.enabled else old
    )
    channels = len(dataset.channels)
    # The files' voxels and their normalised copy, the result, masks and what is drawn of them; the window of slices.
    annotated = 16 * new if dataset.ignored is not None else 0
    window = 2400 * max(old, new) // max(min(shape), 1)
    return channels * (8 * old + 4 * new) + 4 * old + 2 * new + annotated + window

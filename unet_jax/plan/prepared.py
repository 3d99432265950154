"""All cases of a raw data set, preprocessed once: in parallel, within a budget of memory, and kept as memory maps.

Each case is a folder of `data.pools` of its own, named by what it is made of: the content of the case's files and the
settings. So a run that was killed resumes where it stopped, and one changed file costs one case; in one folder for all
of them, as decoded cases have it, neither would.
"""

import concurrent.futures
import contextlib
import dataclasses
import gzip
import hashlib
import io
import json
import os
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Integer
from tqdm import tqdm

from unet_jax.data import pools
from unet_jax.data.formats.image_header import read_headers
from unet_jax.data.names import shown
from unet_jax.errors import DamageError, InputError
from unet_jax.files import replace_folder
from unet_jax.plan import foreground, raw
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.foreground import Key
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.preprocess import Geometry, preprocess
from unet_jax.plan.raw_file import PICTURE_SPACING
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
    """

    name: str
    geometry: Geometry
    shape: tuple[int, int, int]
    classes: tuple[Key, ...]
    folder: Path
    record: pools.Record

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

    def _open(self, name: str) -> pools.Array | None:
        return pools.open_arrays(self.folder, [self.record])[0][name]


def prepare(
    cases: Sequence[raw.RawCase],
    dataset: Dataset,
    plans: Plans,
    configuration: Configuration,
    cache: Path,
    *,
    workers: int | None = None,
    memory: int | None = None,
) -> list[PreparedCase]:
    """Preprocesses cases for one configuration, or takes from the cache those whose files and settings are the same.

    What is taken is verified. A damaged case is made again, and a line on stderr says so. Of several processes, one at
    a time fills the cache; the others wait, and find there what it made.

    Args:
        cases: of the raw data set, with masks.
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

    def prepare_one(case: raw.RawCase) -> PreparedCase | InputError:
        try:
            return _prepared(case, dataset, plans, configuration, settings, cache, budget)
        except InputError as error:
            return error

    with lock_folder(cache, wait=True):
        threads = concurrent.futures.ThreadPoolExecutor(workers or min(MOST_WORKERS, os.cpu_count() or 1))
        try:
            found = list(
                tqdm(threads.map(prepare_one, cases), "preprocessing", len(cases), unit="case", disable=None, delay=1)
            )
        finally:
            threads.shutdown(cancel_futures=True)
    faults = [str(case) for case in found if isinstance(case, InputError)]
    if faults:
        raise InputError("\n".join(faults))
    return found


def _prepared(
    case: raw.RawCase,
    dataset: Dataset,
    plans: Plans,
    configuration: Configuration,
    settings: str,
    cache: Path,
    budget: "_Budget",
) -> PreparedCase:
    if case.mask is None:
        raise InputError(f"{shown(case.name)} has no mask: add it, or leave the case out.")
    # Read once: what is decoded is what the key was made of.
    files = {path: raw.load_file(path) for path in case.files}
    folder = cache / f"{_key(case, files, settings)}.case"
    record = _whole(folder)
    if record is None:
        with budget.taken(_peak_bytes(case, files, plans, configuration, dataset)):
            record = _made(case, files, dataset, plans, configuration, folder)
    facts = record.facts
    geometry = Geometry(*(_tuple(facts[field.name]) for field in dataclasses.fields(Geometry)))
    return PreparedCase(case.name, geometry, record.places["mask"].shape, _tuple(facts["classes"]), folder, record)


def _made(
    case: raw.RawCase,
    files: dict[Path, bytes],
    dataset: Dataset,
    plans: Plans,
    configuration: Configuration,
    folder: Path,
) -> pools.Record:
    decoded, _ = raw.read(case, dataset, plans.reader, files.__getitem__)
    found = preprocess(decoded.image, decoded.mask, decoded.spacing, plans, configuration)
    del decoded
    classes = foreground.classes(dataset)
    voxels = foreground.locations(found.mask, classes)
    arrays = {"image": found.image, "mask": found.mask}
    arrays |= {f"locations {key}": voxels[key] if len(voxels[key]) else None for key in classes}
    with replace_folder(folder) as unfinished:
        pools.write(unfinished, [({"classes": classes, **dataclasses.asdict(found.geometry)}, arrays)])
    [record] = pools.read_index(folder)
    return record


def _whole(folder: Path) -> pools.Record | None:
    """What is in the cache, verified; None where there is nothing, or nothing whole."""
    if not folder.is_dir():
        return None
    with contextlib.suppress(DamageError):
        records = pools.read_index(folder)
        if not pools.damaged(folder, records):
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


def _key(case: raw.RawCase, files: dict[Path, bytes], settings: str) -> str:
    digests = [(path.name, len(files[path]), hashlib.sha256(files[path]).hexdigest()) for path in case.files]
    return hashlib.sha256(json.dumps([settings, case.name, digests]).encode()).hexdigest()


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


def _peak_bytes(
    case: raw.RawCase, files: dict[Path, bytes], plans: Plans, configuration: Configuration, dataset: Dataset
) -> int:
    """An estimate of what preprocessing a case takes, from the header of its first file; 0 where that says nothing."""
    shape, spacing = _claim(files[case.images[0]])
    old = int(np.prod(shape, dtype=np.int64))
    order = plans.transpose_forward
    # Slices keep their distance.
    target = (spacing[order[0]], *configuration.spacing)[-3:]
    new = int(old * np.prod([spacing[axis] for axis in order]) / np.prod(target))
    channels = len(dataset.channels)
    # The files' voxels and their normalised copy, the result, masks and what is drawn of them; the window of slices.
    annotated = 16 * new if dataset.ignored is not None else 0
    window = 2400 * max(old, new) // max(min(shape), 1)
    return channels * (8 * old + 4 * new) + 4 * old + 2 * new + annotated + window


def _claim(data: bytes) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Slices, rows and columns that a file claims, and their spacing; nothing is decoded."""
    try:
        headers = read_headers(data)
        spacing = PICTURE_SPACING if len(headers) == 1 else (1.0, 1.0, 1.0)
        return (len(headers), headers[0].rows, headers[0].columns), spacing
    except InputError:
        pass
    import nibabel
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if data[:2] == b"\x1f\x8b" else io.BytesIO(data)
        header = nibabel.Nifti1Header.from_fileobj(stream, check=False)
        shape, spacing = header.get_data_shape()[:3], tuple(map(float, header.get_zooms()[:3]))
    except (OSError, EOFError, ValueError, zlib.error, HeaderDataError, WrapStructError):
        # Reading it says what is wrong.
        return (0, 0, 0), (1.0, 1.0, 1.0)
    return (shape[::-1], spacing[::-1]) if len(shape) == 3 and min(spacing) > 0 else ((0, 0, 0), (1.0, 1.0, 1.0))

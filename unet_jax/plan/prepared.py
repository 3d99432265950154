"""All cases of a raw data set, preprocessed once: in parallel, within a budget of memory, and kept as memory maps.

Each case is a file of its own, named by what it is made of: the content of the case's files and the settings. So a run
that was killed resumes where it stopped, and one changed file costs one case.
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

from unet_jax.data.formats.image_header import read_header
from unet_jax.data.names import shown
from unet_jax.errors import DamageError, InputError
from unet_jax.plan import foreground, raw, store
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.foreground import Key
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.preprocess import Geometry, preprocess

LAYOUT = "image, mask and locations of a case in one file, version 1"
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
        stored: the file.
    """

    name: str
    geometry: Geometry
    shape: tuple[int, int, int]
    classes: tuple[Key, ...]
    stored: store.Stored

    @property
    def image(self) -> Float32[np.ndarray, "d h w c"]:
        """Normalised and resampled; a read-only memory map."""
        return self.stored.open("image")

    @property
    def mask(self) -> Integer[np.ndarray, "d h w"]:
        """Labels, and -1 outside of the body; a read-only memory map."""
        return self.stored.open("mask")

    def locations(self, key: Key) -> Int32[np.ndarray, "n 3"]:
        """Voxels of a class or region, none if it is not there; a read-only memory map."""
        return self.stored.open(f"locations {key}")

    def count(self, key: Key) -> int:
        """How many locations there are."""
        return self.stored.places[f"locations {key}"].shape[0]


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

    What is taken is verified. A damaged file is made again, and a line on stderr says so.

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

    pool = concurrent.futures.ThreadPoolExecutor(workers or min(MOST_WORKERS, os.cpu_count() or 1))
    try:
        found = list(
            tqdm(pool.map(prepare_one, cases), "preprocessing", len(cases), unit="case", disable=None, delay=1)
        )
    finally:
        pool.shutdown(cancel_futures=True)
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
    path = cache / f"{_key(case, files, settings)}.case"
    stored = _whole(path)
    if stored is None:
        with budget.taken(_peak_bytes(case, files, plans, configuration, dataset)):
            stored = _made(case, files, dataset, plans, configuration, path)
    facts = stored.facts
    geometry = Geometry(*(_tuple(facts[field.name]) for field in dataclasses.fields(Geometry)))
    return PreparedCase(case.name, geometry, stored.places["mask"].shape, _tuple(facts["classes"]), stored)


def _made(
    case: raw.RawCase,
    files: dict[Path, bytes],
    dataset: Dataset,
    plans: Plans,
    configuration: Configuration,
    path: Path,
) -> store.Stored:
    decoded, _ = raw.read(case, dataset, plans.reader, files.__getitem__)
    found = preprocess(decoded.image, decoded.mask, decoded.spacing, plans, configuration)
    del decoded
    classes = foreground.classes(dataset)
    voxels = foreground.locations(found.mask, classes)
    arrays = {"image": found.image, "mask": found.mask} | {f"locations {key}": voxels[key] for key in classes}
    return store.write(path, {"classes": classes, **dataclasses.asdict(found.geometry)}, arrays)


def _whole(path: Path) -> store.Stored | None:
    """What is in the cache, verified; None where there is nothing, or nothing whole."""
    try:
        stored = store.read(path)
        if store.is_whole(stored):
            return stored
    except FileNotFoundError:
        return None
    except DamageError:
        pass
    print(f"{path} is damaged: it is made again.", file=sys.stderr, flush=True)
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
        header = read_header(data)
        return (1, header.rows, header.columns), raw.PICTURE_SPACING
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

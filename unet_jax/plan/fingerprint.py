"""What planning needs to know of a data set: spacings, sizes and foreground intensities (nnU-Net's fingerprint).

Source: nnunetv2 2.8.1, experiment_planning/dataset_fingerprint/fingerprint_extractor.py.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Float64, Int64, Num

from unet_jax.data.case import Case
from unet_jax.data.names import shown
from unet_jax.errors import InputError
from unet_jax.files import write_json
from unet_jax.plan import intensities
from unet_jax.plan.crop import crop_to_nonzero
from unet_jax.plan.fields import Fields, Kind, number, raise_faults, read_object, sequence, whole
from unet_jax.plan.intensities import Intensities
from unet_jax.wording import count

# Foreground voxels over the whole data set that intensities are taken from, in each channel.
SAMPLES = 10**8
# Of the draw, which starts again in every case.
SEED = 1234
# The draw is made in parts of this many voxels, so that their indices need little memory.
_PART = 2**20
# What a picture without a spacing has: the first axis is none to resample along.
_PICTURE, _VOLUME = (999.0, 1.0, 1.0), (1.0, 1.0, 1.0)

Source = TypeVar("Source")


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """A data set in numbers. Axes stand as they are read.

    Attributes:
        spacings: millimetres of each case.
        shapes: voxels of each case after cropping.
        relative_size: the part of the median case that cropping leaves.
        intensities: of each channel's foreground.
    """

    spacings: Float64[np.ndarray, "cases 3"]
    shapes: Int64[np.ndarray, "cases 3"]
    relative_size: float
    intensities: tuple[Intensities, ...]


@dataclasses.dataclass(frozen=True)
class _Measured:
    """What a case adds; no samples where it has no foreground, else those of each channel."""

    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    relative_size: float
    samples: list[Float32[np.ndarray, " samples"]]
    channels: int


def take_fingerprint(
    sources: Sequence[Source],
    read: Callable[[Source], Case],
    *,
    workers: int | None = None,
    samples: int = SAMPLES,
) -> Fingerprint:
    """Reads every case once, in threads, each of which holds one case at a time.

    The samples are kept: 4 bytes each, 0.4 GB a channel for the usual number, and one channel's again for its
    statistics.

    Args:
        sources: whatever `read` makes a case of, in the order of the cases' names; the last digits of the means depend
            on it.
        read: gives a case with a mask; it is called from several threads.
        workers: threads; as many as there are processors unless given.
        samples: foreground voxels for the intensities, over all cases.

    Raises:
        InputError: a case cannot be read, lacks a mask or has other channels than the first, each a line; or no case
            has foreground.
    """
    if not sources:
        raise InputError("There is no case to plan for: add cases.")
    share = samples // len(sources)

    def measure(source: Source) -> _Measured | InputError:
        try:
            return _measure(read(source), share)
        except InputError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count() or 1) as threads:
        found = list(threads.map(measure, sources))
    faults = [str(each) for each in found if isinstance(each, InputError)]
    counts = sorted({each.channels for each in found if isinstance(each, _Measured)})
    if len(counts) > 1:
        faults.append(f"cases have {' and '.join(map(str, counts))} channels: all must have as many.")
    raise_faults("No plan can be made", faults)
    if not any(each.samples for each in found):
        raise InputError("No case has a foreground voxel: check the masks.")
    return Fingerprint(
        spacings=np.array([each.spacing for each in found], np.float64),
        shapes=np.array([each.shape for each in found], np.int64),
        relative_size=float(np.median([each.relative_size for each in found])),
        intensities=tuple(_statistics(channel) for channel in _pooled(found)),
    )


def spacing_of(case: Case) -> tuple[float, float, float]:
    """A case's spacing, or where its files do not say: 1 mm, and 999 mm across a picture, as nnU-Net has them."""
    if case.spacing is not None:
        return case.spacing
    return _PICTURE if case.image.shape[0] == 1 else _VOLUME


def _measure(case: Case, share: int) -> _Measured:
    if case.mask is None:
        raise InputError(f"{shown(case.name)} has no mask: add it, or leave the case out.")
    image, labels, _ = crop_to_nonzero(case.image, case.mask)
    voxels = image[labels > 0].astype(np.float32)
    if not np.isfinite(voxels).all():
        raise InputError(f"{shown(case.name)} has foreground voxels that are NaN or infinite: restore or remove it.")
    return _Measured(
        spacing=spacing_of(case),
        shape=labels.shape,
        relative_size=labels.size / case.mask.size,
        samples=draw(voxels, share) if len(voxels) else [],
        channels=image.shape[-1],
    )


def draw(voxels: Float32[np.ndarray, "n c"], count: int) -> list[Float32[np.ndarray, " count"]]:
    """Draws voxels with replacement, each channel's on its own; the same ones each time."""
    generator = np.random.RandomState(SEED)
    drawn = []
    for channel in np.ascontiguousarray(voxels.T):
        values = np.empty(count, np.float32)
        for start in range(0, count, _PART):
            part = values[start : start + _PART]
            part[:] = channel[generator.randint(0, len(channel), len(part))]
        drawn.append(values)
    return drawn


def _pooled(found: list[_Measured]) -> Iterator[Num[np.ndarray, " samples"]]:
    """The samples of one channel after the other, which are then no longer in `found`: they would be held twice.

    In nnU-Net, a case without foreground has an empty list in the place of samples, which makes float64 of all and
    changes the last digits of the statistics.
    """
    samples = [each.samples for each in found if each.samples]
    kind = np.float32 if len(samples) == len(found) else np.float64
    while samples[0]:
        yield np.concatenate([each.pop(0) for each in samples], dtype=kind)


def _statistics(values: Num[np.ndarray, " samples"]) -> Intensities:
    mean, std = np.mean(values), np.std(values)
    # The array is no longer needed and may be sorted.
    low, median, high = np.percentile(values, np.array([0.5, 50, 99.5]), overwrite_input=True)
    return Intensities(
        max=float(np.max(values)),
        mean=float(mean),
        median=float(median),
        min=float(np.min(values)),
        percentile_00_5=float(low),
        percentile_99_5=float(high),
        std=float(std),
    )


def to_json(fingerprint: Fingerprint) -> dict[str, Any]:
    """What nnU-Net's dataset_fingerprint.json holds."""
    return {
        "foreground_intensity_properties_per_channel": intensities.to_json(fingerprint.intensities),
        "median_relative_size_after_cropping": fingerprint.relative_size,
        "shapes_after_crop": fingerprint.shapes.tolist(),
        "spacings": fingerprint.spacings.tolist(),
    }


def write_fingerprint(path: Path, fingerprint: Fingerprint) -> None:
    """Writes a dataset_fingerprint.json.

    Raises:
        StorageError: the disk is full, read-only or failing.
    """
    write_json(path, to_json(fingerprint))


def read_fingerprint(path: Path) -> Fingerprint:
    """Reads a dataset_fingerprint.json.

    Raises:
        InputError: it cannot be read, or something in it is wrong; each mistake is a line.
    """
    return from_json(read_object(path), str(path))


def from_json(values: Any, where: str = "dataset_fingerprint.json") -> Fingerprint:
    """The fingerprint that a dataset_fingerprint.json describes.

    Raises:
        InputError: something in it is wrong; each mistake is a line.
    """
    faults: list[str] = []
    fields = Fields(values, "", faults)
    channels = intensities.from_fields(fields.inner("foreground_intensity_properties_per_channel"), faults)
    relative_size = fields.take("median_relative_size_after_cropping", PART)
    shapes = fields.take("shapes_after_crop", sequence(sequence(whole(1), [3])))
    spacings = fields.take("spacings", sequence(sequence(number(above=0), [3])))
    fields.close()
    if not faults and len(shapes) != len(spacings):
        faults.append(
            f"shapes_after_crop has {count(len(shapes), 'case')} and spacings {len(spacings)}: give both for each case."
        )
    raise_faults(where, faults)
    return Fingerprint(np.array(spacings, np.float64), np.array(shapes, np.int64), float(relative_size), channels)


def _read_part(value: Any) -> float:
    value = number(above=0).read(value)
    if value > 1:
        raise ValueError
    return value


PART = Kind("a number above 0, up to 1", _read_part)

"""What a case holds, measured one case at a time: of a thousand cases, only numbers and small pictures are kept."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from unet_jax.check import axes, outside
from unet_jax.check.axes import Axes
from unet_jax.check.thumbnail import thumbnail
from unet_jax.data import labels, regions, scale
from unet_jax.data.case import Case
from unet_jax.data.load import DataSet
from unet_jax.data.regions import Classes
from unet_jax.data.scale import Measured


@dataclasses.dataclass(frozen=True)
class Surveyed:
    """A case in numbers.

    Attributes:
        name: of the case.
        patient: whose scan it is.
        shape: slices, rows, columns.
        spacing: mm between them; None where the files do not say.
        ends: lowest and highest value of each channel.
        measured: percentiles of each channel.
        contrast: of each channel, logarithms of the mean and of the standard deviation over voxels that are not 0; what
            tells one sequence from another.
        voxels: of background and each class; where classes overlap, of all that share them.
        ignored: voxels that are left out.
        outside: share of the marked voxels that lie outside of what the image shows: see `outside`.
        axes: of the file, if it is a volume's.
        nbytes: of the decoded image and mask.
        slice_shown: the one with the most marked pixels, from 0; without any, the middle one.
        picture: that slice with its outlines, a JPEG.
    """

    name: str
    patient: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None
    ends: tuple[tuple[float, float], ...]
    measured: Measured
    contrast: tuple[tuple[float, float], ...]
    voxels: tuple[int, ...]
    ignored: int
    outside: float
    axes: Axes | None
    nbytes: int
    slice_shown: int
    picture: bytes

    @property
    def is_marked(self) -> bool:
        """Whether its mask has anything."""
        return self.voxels[0] + self.ignored < math.prod(self.shape)


def survey(data: DataSet, root: Path, channel: int | None) -> list[Surveyed]:
    """Every case of a data set, with a progress bar.

    Args:
        data: the data set.
        root: its folder.
        channel: that pictures show in grey; None for colours, where there are three.
    """
    listing = data.listing or [None] * len(data.cases)
    return [
        survey_case(case, data.classes, channel, files and axes.read(root, files))
        for case, files in _with_progress(list(zip(data.cases, listing, strict=True)))
    ]


def survey_case(case: Case, classes: Classes, channel: int | None, lies: Axes | None = None) -> Surveyed:
    """One case, which `lies` so; the other arguments are as for `survey`."""
    image = np.asarray(case.image)
    drawn = np.zeros(image.shape[:3], np.uint8) if case.mask is None else np.asarray(case.mask)
    mask = labels.without_ignored(drawn)
    ignored = int(np.count_nonzero(drawn == labels.IGNORED))
    areas = np.count_nonzero(mask, axis=(1, 2))
    shown = int(areas.argmax()) if areas.any() else len(mask) // 2
    channels = range(image.shape[-1])
    background, *counts = np.bincount(mask.reshape(-1), minlength=regions.count_numbers(classes) + 1).tolist()
    return Surveyed(
        name=case.name,
        patient=case.patient,
        shape=mask.shape,
        spacing=case.spacing,
        ends=tuple((float(image[..., one].min()), float(image[..., one].max())) for one in channels),
        measured=scale.measure(case.name, image),
        contrast=tuple(_contrast(image[..., one]) for one in channels),
        voxels=(background - ignored, *(sum(counts[number - 1] for number in its) for its in regions.members(classes))),
        ignored=ignored,
        outside=outside.share(image, mask),
        axes=lies,
        nbytes=image.nbytes + mask.nbytes,
        slice_shown=shown,
        picture=thumbnail(image[shown], mask[shown], classes, channel, case.spacing),
    )


def _contrast(values: np.ndarray) -> tuple[float, float]:
    sample = values.reshape(-1)[:: (values.size // scale.SAMPLED) | 1]
    inside = sample[sample != 0].astype(np.float64)
    if not inside.size:
        return (0.0, 0.0)
    return (float(np.log(abs(inside.mean()) + 1e-6)), float(np.log(inside.std() + 1e-6)))


def _with_progress(cases: Sequence) -> Iterator:
    yield from tqdm(cases, desc="checking", unit="case", disable=None, leave=False)

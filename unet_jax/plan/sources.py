"""Cases to be preprocessed, wherever they are from: nnU-Net's raw files, or the decoded cases of a data set."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.data import labels, regions
from unet_jax.data.case import Case
from unet_jax.data.formats import table
from unet_jax.data.formats.image_header import read_headers
from unet_jax.data.load import DataSet
from unet_jax.data.names import shown
from unet_jax.errors import InputError
from unet_jax.plan import raw
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.fingerprint import spacing_of
from unet_jax.plan.raw_file import PICTURE_SPACING


@dataclasses.dataclass(frozen=True)
class Opened:
    """What is known of a case before it is decoded.

    Attributes:
        content: what identifies its voxels, for JSON: names, sizes and digests of its files.
        shape: slices, rows and columns that its files claim; zeros where they say nothing.
        spacing: mm that they claim.
        load: decodes it.
    """

    content: list[Any]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    load: Callable[[], Case]


@dataclasses.dataclass(frozen=True)
class Source:
    """A case that can be preprocessed.

    Attributes:
        name: the case's.
        open: looks at its files; raises InputError if they cannot be read, or it has no mask.
    """

    name: str
    open: Callable[[], Opened]


def of_raw(cases: Sequence[raw.RawCase], dataset: Dataset, reader: str | None) -> list[Source]:
    """The cases of a raw data set, as nnU-Net's `reader` has them."""

    def opened(case: raw.RawCase) -> Opened:
        if case.mask is None:
            raise InputError(f"{shown(case.name)} has no mask: add it, or leave the case out.")
        # Read once: what is decoded is what the key is made of.
        files = {path: raw.load_file(path) for path in case.files}
        content = [(path.name, len(files[path]), hashlib.sha256(files[path]).hexdigest()) for path in case.files]
        claim = _claim(files[case.images[0]], case.images[0])
        return Opened([reader, *content], *claim, lambda: raw.read(case, dataset, reader, files.__getitem__)[0])

    return [Source(case.name, lambda case=case: opened(case)) for case in cases]


def of_cases(data: DataSet) -> list[Source]:
    """The decoded cases of a data set, which its readers have checked."""

    def opened(position: int) -> Opened:
        case, files = data.cases[position], data.listing[position]
        if case.mask is None:
            raise InputError(f"{shown(case.name)} has no mask: add it, or leave the case out.")
        content = [(path.as_posix(), *data.digests[path]) for path in (*files.images, *files.masks)]
        return Opened([data.decoding, *content], case.image.shape[:3], spacing_of(case), lambda: numbered(case))

    def numbered(case: Case) -> Case:
        """The ignored label is one more than the last, as nnU-Net has it."""
        if not data.ignores:
            return case
        ignored = np.uint8(regions.count_numbers(data.classes) + 1)
        return dataclasses.replace(case, mask=np.where(case.mask == labels.IGNORED, ignored, case.mask))

    return [Source(case.name, lambda position=position: opened(position)) for position, case in enumerate(data.cases)]


def _claim(data: bytes, path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Slices, rows and columns that a file claims, and their spacing; nothing is decoded."""
    try:
        headers = read_headers(data)
        spacing = PICTURE_SPACING if len(headers) == 1 else (1.0, 1.0, 1.0)
        return (len(headers), headers[0].rows, headers[0].columns), spacing
    except InputError:
        pass
    try:
        grid = table.read_grid(data, path).with_axes("file")
    except InputError:
        # Reading it says what is wrong.
        return (0, 0, 0), (1.0, 1.0, 1.0)
    return grid.shape[::-1], grid.spacing

"""How much was found: tables with a row per case and a row per slice."""

import contextlib
import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from unet_jax.data import regions
from unet_jax.data.case import Case
from unet_jax.data.names import shown
from unet_jax.data.regions import Classes
from unet_jax.files import replace_file, storage_error
from unet_jax.metrics import lesions

Row = dict[str, str | int | float]

CASES, SLICES = "cases.csv", "slices.csv"


def measure(case: Case, mask: UInt8[np.ndarray, "d h w"], images: Sequence[Path] = ()) -> tuple[Row, list[Row]]:
    """The row of the case and the rows of its slices.

    Volumes are in ml and areas in mm² if the case has a spacing, otherwise in pixels. Components are connected as in
    `lesions`; slices are numbered from 1.

    Args:
        case: what was segmented.
        mask: 0 and 1.
        images: the file of each slice, in order, if each slice has its own.
    """
    pixels = mask.sum((1, 2), dtype=np.int64).tolist()
    in_mm = case.spacing is not None
    pixel = math.prod(case.spacing[1:]) if in_mm else 1
    voxel = math.prod(case.spacing) / 1000 if in_mm else 1
    names: Row = {"case": shown(case.name), "patient": shown(case.patient)}
    row = names | {
        "slices": len(mask),
        "slices_with_tumour": sum(count > 0 for count in pixels),
        "components": lesions.number(mask),
        "volume": sum(pixels) * voxel,
        "unit": "ml" if in_mm else "pixels",
    }
    areas = [
        names
        | {
            "slice": number,
            "image": shown(images[number - 1].as_posix()) if images else "",
            "area": count * pixel,
            "unit": "mm2" if in_mm else "pixels",
        }
        for number, count in enumerate(pixels, 1)
    ]
    return row, areas


def measure_classes(
    case: Case, mask: UInt8[np.ndarray, "d h w"], classes: Classes, images: Sequence[Path] = ()
) -> tuple[list[Row], list[Row]]:
    """The rows of the case and of its slices, by class if there are several.

    Args:
        case: what was segmented.
        mask: 0 and 1, or the numbers of several classes.
        classes: several; empty for a single one.
        images: as in `measure`.
    """
    if not classes:
        row, areas = measure(case, mask, images)
        return [row], areas
    rows, areas = [], []
    for name, its in zip(classes, regions.members(classes), strict=True):
        row, of_slices = measure(case, regions.marked(mask, its).astype(np.uint8), images)
        rows.append(_of_class(name, row))
        areas += [_of_class(name, area) for area in of_slices]
    return rows, areas


def _of_class(name: str, row: Row) -> Row:
    return {"case": row["case"], "patient": row["patient"], "class": name} | row


class Tables:
    """Both tables, to which rows are added case by case: memory holds none, whatever the number of slices.

    As a context, it has them in place, whole, when it ends; where it ends with an error, or without a row, what lay
    there before stays.
    """

    def __init__(self, folder: Path):
        """Writes nothing yet."""
        self._folder = folder
        self._writers: list[tuple[Path, csv.DictWriter]] = []
        self._files = contextlib.ExitStack()

    def __enter__(self) -> "Tables":
        self._files.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._files.__exit__(*error)

    def add(self, cases: Sequence[Row], slices: Sequence[Row]) -> None:
        """Adds the rows of a case and those of its slices.

        Raises:
            StorageError: the disk is full, read-only or failing.
        """
        if not self._writers:
            for name, rows in ((CASES, cases), (SLICES, slices)):
                path = self._folder / name
                file = self._files.enter_context(replace_file(path))
                self._writers.append((path, csv.DictWriter(file, list(rows[0]), lineterminator="\n")))
                self._writers[-1][1].writeheader()
        for (path, table), rows in zip(self._writers, (cases, slices), strict=True):
            try:
                table.writerows(rows)
            except OSError as error:
                raise storage_error(error, path) or error from None

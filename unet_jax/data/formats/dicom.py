"""DICOM series to cases: slices in the order in which they lie in the body."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError, lines_of
from unet_jax.data.formats import dicom_frames
from unet_jax.data.formats.dicom_frames import Slice, pydicom
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError
from unet_jax.wording import count

# Gaps between slices may differ by this share of the usual one.
GAP_TOLERANCE = 0.1
# Millimetres, and parts of 1 in a direction: what is closer than this is the same.
SAME = 1e-3


def decode(files: CaseFiles, read: Callable[[Path], bytes]) -> Case:
    """Reads, checks and stacks the slices of one series.

    Returns:
        image float32 [slices, rows, columns, 1] in the units that the series is in (slope and intercept applied), no
        mask, spacing in mm where the files say it; the patient is the PatientID.

    Raises:
        InputError: every fault of the series, one line each.
    """
    series = read_series(files, read)
    datasets = [dataset for dataset, _ in series]
    patient = str(datasets[0].get("PatientID") or files.patient)
    image = np.stack([pixels for _, pixels in series])[..., None]
    return Case(files.name, patient, image, None, spacing_of(datasets))


def read_series(files: CaseFiles, read: Callable[[Path], bytes]) -> list[Slice]:
    """The slices of a series, checked, in the order of their position along their normal: data set and pixels of each.

    The order is that of DICOM PS3.3, C.7.6.2: Image Position (Patient) projected on the cross product of Image
    Orientation (Patient). Names and instance numbers do not matter. A data set's `filename` is its path as in `files`.

    Raises:
        InputError: a file is damaged or of a sort that is not read, the files are of several series, a position is
            missing or there twice, or a slice is missing between the others; all faults are listed.
    """
    faults, series = list(files.faults), []
    for path in files.images:
        try:
            series += dicom_frames.read(read(path), path)
        except InputError as error:
            faults += lines_of(error)
    if not faults:
        datasets = [dataset for dataset, _ in series]
        faults = faults_of(files.name, datasets)
    if faults:
        raise FaultsError(faults)
    return sorted(series, key=lambda one: position(one[0])) if len(series) > 1 else series


def first_series(files: CaseFiles, read: Callable[[Path], bytes]) -> CaseFiles:
    """A case of several series with the files of its first channel's alone."""
    series = [dicom_frames.parse(read(path)).get("SeriesInstanceUID") for path in files.images]
    images = tuple(path for path, uid in zip(files.images, series, strict=True) if uid == series[0])
    return dataclasses.replace(files, images=images)


def faults_of(name: str, datasets: Sequence[pydicom.Dataset]) -> list[str]:
    """What keeps these slices from being one series, a line each."""
    return _series_faults(name, datasets) or _position_faults(name, datasets)


def _series_faults(name: str, datasets: Sequence[pydicom.Dataset]) -> list[str]:
    """A line where there is more than one series, or where slices are of several sizes."""
    series: dict[str, list[pydicom.Dataset]] = {}
    for dataset in datasets:
        series.setdefault(str(dataset.get("SeriesInstanceUID")), []).append(dataset)
    if len(series) > 1:
        found = "; ".join(
            f"{shown(str(of[0].get('SeriesDescription') or 'without a description'))} "
            f"({count(len(of), 'file')}, {shown(uid)})"
            for uid, of in series.items()
        )
        return [f"{shown(name)}: holds {len(series)} series, and one a folder is needed: {found}: put each in its own."]
    first, *rest = datasets
    return [
        Fault(
            one.filename,
            f"has {_extent(one)}, and {shown(first.filename)} {_extent(first)}: all slices of a series must be alike.",
            "extent",
        )
        for one in rest
        if _extent(one) != _extent(first)
    ]


def _extent(dataset: pydicom.Dataset) -> str:
    spacing = numbers(dataset, "PixelSpacing", 2)
    size = "unknown size" if spacing is None else f"{spacing[0]:g} x {spacing[1]:g} mm"
    return f"{dataset.Rows}x{dataset.Columns} pixels of {size}"


def _position_faults(name: str, datasets: Sequence[pydicom.Dataset]) -> list[str]:
    if len(datasets) == 1:
        return []
    faults = [
        Fault(
            dataset.filename,
            "has no Image Position or no Image Orientation, which tell where the slice lies: restore it.",
        )
        for dataset in datasets
        if not _is_placed(dataset)
    ]
    if faults:
        return faults
    faults = [
        Fault(
            dataset.filename,
            f"is tilted against {shown(datasets[0].filename)}, and slices of a series must be parallel: put it in a "
            "folder of its own.",
            "tilted",
        )
        for dataset in datasets[1:]
        if np.abs(normal(dataset) - normal(datasets[0])).max() > SAME
    ]
    if faults:
        return faults
    ordered = sorted(datasets, key=position)
    gaps = np.diff([position(dataset) for dataset in ordered])
    usual = np.median(gaps[gaps >= SAME]) if (gaps >= SAME).any() else 0
    for one, other, gap in zip(ordered, ordered[1:], gaps, strict=False):
        pair = f"{shown(one.filename)} and {shown(other.filename)}"
        if gap < SAME:
            mistake = "lie at the same place: keep one, or put series that were taken twice in two folders."
            faults.append(Fault(pair, mistake))
        elif abs(gap - usual) > GAP_TOLERANCE * usual:
            mistake = f"lie {gap:.2f} mm apart, and the slices of {shown(name)} usually {usual:.2f} mm: a slice is"
            faults.append(Fault(pair, f"{mistake} missing or is too many.", "gap"))
    return faults


def numbers(dataset: pydicom.Dataset, name: str, count: int) -> Float64[np.ndarray, " n"] | None:
    """An element's numbers, or None where it does not hold so many finite ones."""
    try:
        numbers = np.array([float(number) for number in dataset.get(name) or ()])
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _is_placed(dataset: pydicom.Dataset) -> bool:
    placed = numbers(dataset, "ImagePositionPatient", 3) is not None
    oriented = numbers(dataset, "ImageOrientationPatient", 6) is not None
    return placed and oriented and bool(np.linalg.norm(normal(dataset)) > 0.5)


def normal(dataset: pydicom.Dataset) -> Float64[np.ndarray, "3"]:
    """The unit vector across a slice, by its Image Orientation."""
    directions = numbers(dataset, "ImageOrientationPatient", 6)
    return np.cross(directions[:3], directions[3:])


def position(dataset: pydicom.Dataset) -> float:
    """Millimetres along the normal."""
    return float(numbers(dataset, "ImagePositionPatient", 3) @ normal(dataset))


def spacing_of(series: Sequence[pydicom.Dataset]) -> tuple[float, float, float] | None:
    """Between slices, by their positions, or of a single slice its thickness; then rows and columns."""
    within = numbers(series[0], "PixelSpacing", 2)
    if len(series) > 1:
        between = float(np.median(np.diff([position(dataset) for dataset in series])))
    else:
        between = float(series[0].get("SliceThickness") or 0)
    if within is None or not (within > 0).all() or between <= 0:
        return None
    return (between, *within.tolist())

"""DICOM series to cases, for prediction: one folder a series, its slices in the order in which they lie in the body."""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError, lines_of
from unet_jax.data.formats.file_sorts import sort_of_file
from unet_jax.data.listing import entries
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

try:
    import pydicom
    from pydicom.pixels import apply_modality_lut
except ImportError as error:
    raise InputError("DICOM files need the package pydicom: pip install .[dicom]") from error

# What pydicom finds odd, it warns of without a file's name; what is used here is checked here.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
warnings.filterwarnings("ignore", module="pydicom")

# Its data set is one Deflate stream, which could grow to anything while it is parsed.
DEFLATED_SYNTAX = b"1.2.840.10008.1.2.1.99"
ELEMENTS = (
    "PatientID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
)
MAX_PIXELS = 2**28
# JPEG reaches about 1400 bytes of pixels a byte of file, RLE 64.
MAX_EXPANSION = 4096
# Gaps between slices may differ by this share of the usual one.
GAP_TOLERANCE = 0.1
# Millimetres, and parts of 1 in a direction: what is closer than this is the same.
SAME = 1e-3


def find(path: Path) -> tuple[Path, list[CaseFiles]]:
    """Lists a DICOM file, or every folder that holds some as a case of its own.

    Other files are passed over, and so is DICOMDIR.

    Returns:
        the root that the paths start from, and cases without masks.

    Raises:
        InputError: there is no DICOM file.
    """
    if path.is_file():
        return path.parent, [CaseFiles(path.stem, path.stem, (Path(path.name),), ())]
    folders: dict[Path, list[Path]] = {}
    for file in entries(path):
        if sort_of_file(path / file) == "dicom":
            folders.setdefault(file.parent, []).append(file)
    if not folders:
        raise InputError(f"{path}: holds no DICOM file: name a DICOM file, or a folder of them.")
    names = {folder: folder.as_posix() if folder != Path() else path.resolve().name for folder in folders}
    return path, [CaseFiles(names[folder], names[folder], tuple(files), ()) for folder, files in folders.items()]


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
    return Case(files.name, patient, image, None, _spacing(datasets))


def read_series(
    files: CaseFiles, read: Callable[[Path], bytes]
) -> list[tuple[pydicom.Dataset, Float32[np.ndarray, "h w"]]]:
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
            series.append(_parse(read(path), path))
        except InputError as error:
            faults += lines_of(error)
    if not faults:
        datasets = [dataset for dataset, _ in series]
        faults = _series_faults(files.name, datasets) or _position_faults(files.name, datasets)
    if faults:
        raise FaultsError(faults)
    return sorted(series, key=lambda one: _position(one[0])) if len(series) > 1 else series


def _parse(data: bytes, path: Path) -> tuple[pydicom.Dataset, Float32[np.ndarray, "h w"]]:
    try:
        if DEFLATED_SYNTAX in data[:2048]:
            raise InputError("is compressed as a whole (Deflated Explicit VR): save it without that.")
        dataset = pydicom.dcmread(io.BytesIO(data))
        for name in ELEMENTS:  # each is parsed when it is first looked at
            dataset.get(name)
        _check_claims(dataset, len(data))
        _check_sort(dataset)
        pixels = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float32)
    except InputError as error:
        raise FaultsError([Fault(path, str(error))]) from error
    except Exception as error:  # pydicom and its decoders promise no kind of exception for damaged bytes
        mistake = f"is damaged, not a DICOM file, or compressed unusually ({_one_line(error)}): restore it, or save it"
        raise FaultsError([Fault(path, f"{mistake} uncompressed.", "damaged")]) from error
    dataset.filename = path.as_posix()
    return dataset, pixels


def _check_claims(dataset: pydicom.Dataset, file_bytes: int) -> None:
    if "PixelData" not in dataset:
        raise InputError(f"holds no picture ({dataset.get('Modality', 'no modality')}): remove it from the series.")
    rows, columns, samples = (int(dataset.get(name) or 0) for name in ("Rows", "Columns", "SamplesPerPixel"))
    if rows * columns * samples > min(MAX_PIXELS, MAX_EXPANSION * file_bytes):
        raise InputError(f"claims {rows}x{columns} pixels in a file of {file_bytes} bytes: restore it.")
    if rows * columns * samples == 0:
        raise InputError(f"the image has no pixel ({rows}x{columns}): restore or remove it.")


def _check_sort(dataset: pydicom.Dataset) -> None:
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise InputError(
            f"holds {dataset.NumberOfFrames} frames (enhanced DICOM), and one a file is read: convert the series to "
            "NIfTI, or to single frames."
        )
    if dataset.get("PhotometricInterpretation") != "MONOCHROME2":
        raise InputError(
            f"is {dataset.get('PhotometricInterpretation')}, where grey from black to white (MONOCHROME2) is needed: "
            "give the original series, not one made from it."
        )


def _series_faults(name: str, datasets: Sequence[pydicom.Dataset]) -> list[str]:
    """A line where there is more than one series, or where slices are of several sizes."""
    series: dict[str, list[pydicom.Dataset]] = {}
    for dataset in datasets:
        series.setdefault(str(dataset.get("SeriesInstanceUID")), []).append(dataset)
    if len(series) > 1:
        found = "; ".join(
            f"{shown(str(of[0].get('SeriesDescription') or 'without a description'))} ({len(of)} files, {shown(uid)})"
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
    spacing = _numbers(dataset, "PixelSpacing", 2)
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
        if np.abs(_normal(dataset) - _normal(datasets[0])).max() > SAME
    ]
    if faults:
        return faults
    ordered = sorted(datasets, key=_position)
    gaps = np.diff([_position(dataset) for dataset in ordered])
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


def _numbers(dataset: pydicom.Dataset, name: str, count: int) -> Float64[np.ndarray, " n"] | None:
    """An element's numbers, or None where it does not hold so many finite ones."""
    try:
        numbers = np.array([float(number) for number in dataset.get(name) or ()])
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _is_placed(dataset: pydicom.Dataset) -> bool:
    placed = _numbers(dataset, "ImagePositionPatient", 3) is not None
    oriented = _numbers(dataset, "ImageOrientationPatient", 6) is not None
    return placed and oriented and bool(np.linalg.norm(_normal(dataset)) > 0.5)


def _normal(dataset: pydicom.Dataset) -> Float64[np.ndarray, "3"]:
    directions = _numbers(dataset, "ImageOrientationPatient", 6)
    return np.cross(directions[:3], directions[3:])


def _position(dataset: pydicom.Dataset) -> float:
    return float(_numbers(dataset, "ImagePositionPatient", 3) @ _normal(dataset))


def _spacing(series: Sequence[pydicom.Dataset]) -> tuple[float, float, float] | None:
    """Between slices, by their positions, or of a single slice its thickness; then rows and columns."""
    within = _numbers(series[0], "PixelSpacing", 2)
    if len(series) > 1:
        between = float(np.median(np.diff([_position(dataset) for dataset in series])))
    else:
        between = float(series[0].get("SliceThickness") or 0)
    if within is None or not (within > 0).all() or between <= 0:
        return None
    return (between, *within.tolist())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

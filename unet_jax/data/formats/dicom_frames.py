"""Bytes of a DICOM file to its slices: one, or the frames of an enhanced file, each with what says where it lies."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from unet_jax.data.faults import Fault, FaultsError
from unet_jax.data.formats.file_sorts import is_bare_dicom
from unet_jax.errors import InputError

try:
    import pydicom
    from pydicom.pixels import apply_modality_lut, get_decoder
    from pydicom.uid import JPEGLossless, JPEGLosslessSV1
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
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
)
MAX_PIXELS = 2**28
# JPEG reaches about 1400 bytes of pixels a byte of file, RLE 64.
MAX_EXPANSION = 4096
# Where an enhanced file has what a slice has itself (PS3.3, C.7.6.16.2).
GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}

Slice = tuple[pydicom.Dataset, Float32[np.ndarray, "h w"]]


def read(data: bytes, path: Path) -> list[Slice]:
    """The slices of a file, each as a data set and its pixels, with slope and intercept applied and white at the top.

    A data set's `filename` is the path, with the number of the frame where there are several; `frame` is that number,
    from 0, or None.

    Raises:
        InputError: the file is damaged, or not of a sort that is read.
    """
    try:
        dataset = parse(data)
        for name in ELEMENTS:  # each is parsed when it is first looked at
            dataset.get(name)
        check_claims(dataset, len(data))
        _check_sort(dataset)
        stored = _upright(dataset)
        if int(dataset.get("NumberOfFrames") or 1) > 1:
            return [_frame(dataset, number, stored[number], path) for number in range(len(stored))]
        pixels = apply_modality_lut(stored, dataset).astype(np.float32)
    except InputError as error:
        raise FaultsError([Fault(path, str(error))]) from error
    except Exception as error:  # pydicom and its decoders promise no kind of exception for damaged bytes
        mistake = f"is damaged, not a DICOM file, or compressed unusually ({one_line(error)}): restore it, or save it"
        raise FaultsError([Fault(path, f"{mistake} uncompressed.", "damaged")]) from error
    dataset.filename, dataset.frame = path.as_posix(), None
    return [(dataset, pixels)]


def parse(data: bytes) -> pydicom.Dataset:
    """The data set of a file, also of one without preamble and file meta information, as some archives send them.

    Raises:
        InputError: it is compressed as a whole.
        Exception: nearly any, where it is damaged.
    """
    if DEFLATED_SYNTAX in data[:2048]:
        raise InputError("is compressed as a whole (Deflated Explicit VR): save it without that.")
    if not is_bare_dicom(data):
        return pydicom.dcmread(io.BytesIO(data))
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian if implicit else explicit
    return dataset


def one_line(error: Exception) -> str:
    """What an exception says, at most 200 characters of it."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_claims(dataset: pydicom.Dataset, file_bytes: int) -> None:
    """Raises InputError where a data set has no pixels, or claims more than a file of so many bytes can hold."""
    if "PixelData" not in dataset:
        raise InputError(f"holds no picture ({dataset.get('Modality', 'no modality')}): remove it from the series.")
    rows, columns, samples = (int(dataset.get(name) or 0) for name in ("Rows", "Columns", "SamplesPerPixel"))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if rows * columns * samples * frames > min(MAX_PIXELS, MAX_EXPANSION * file_bytes):
        by = f"{frames}x{rows}x{columns}" if frames > 1 else f"{rows}x{columns}"
        raise InputError(f"claims {by} pixels in a file of {file_bytes:,} bytes: restore it.")
    if rows * columns * samples == 0:
        raise InputError(f"the image has no pixel ({rows}x{columns}): restore or remove it.")


def _check_sort(dataset: pydicom.Dataset) -> None:
    if dataset.get("Modality") == "SEG":
        raise InputError("is a mask (SEG), where a scan is needed: name the series that it was drawn on.")
    if dataset.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            f"is {dataset.get('PhotometricInterpretation')}, where grey (MONOCHROME1 or MONOCHROME2) is needed: give "
            "the original series, not one made from it."
        )
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax in (JPEGLossless, JPEGLosslessSV1) and not get_decoder(syntax).is_available:
        raise InputError("is compressed as JPEG Lossless: pip install '.[jpeg]', or save it uncompressed.")
    if int(dataset.get("NumberOfFrames") or 1) > 1 and "PerFrameFunctionalGroupsSequence" not in dataset:
        raise InputError(
            f"holds {dataset.NumberOfFrames} frames, and nothing says where they lie: convert it to NIfTI, or to "
            "single frames."
        )


def _upright(dataset: pydicom.Dataset) -> np.ndarray:
    """The stored values; of MONOCHROME1, whose least value is white, counted from the other end of their range."""
    stored = dataset.pixel_array
    if dataset.PhotometricInterpretation == "MONOCHROME2":
        return stored
    low, high = (-1, 0) if dataset.PixelRepresentation else (0, 2 ** int(dataset.BitsStored) - 1)
    return (low + high) - stored.astype(np.int64)


def _frame(dataset: pydicom.Dataset, number: int, stored: np.ndarray, path: Path) -> Slice:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    own = dataset.PerFrameFunctionalGroupsSequence[number]
    frame = pydicom.Dataset()
    for name in ("PatientID", "SeriesInstanceUID", "SeriesDescription", "FrameOfReferenceUID", "Rows", "Columns"):
        if name in dataset:
            setattr(frame, name, dataset.get(name))
    for name, sequence in GROUPS.items():
        value = _of_group(own, sequence, name) or _of_group(shared, sequence, name)
        if value is not None:
            setattr(frame, name, value)
    slope, intercept = float(frame.get("RescaleSlope") or 1), float(frame.get("RescaleIntercept") or 0)
    frame.filename, frame.frame = f"{path.as_posix()}, frame {number + 1}", number
    return frame, (stored * slope + intercept).astype(np.float32)


def _of_group(groups: pydicom.Dataset | dict, sequence: str, name: str) -> Any:
    items = groups.get(sequence)
    return items[0].get(name) if items else None

"""What was drawn on a DICOM series: the segments of a SEG and the regions of an RTSTRUCT, as masks of its slices.

Sources: PS3.3, A.51 and C.8.20 (Segmentation), A.19 and C.8.8.6 (RT Structure Set: ROI Contour).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from unet_jax.data import labels as label_maps
from unet_jax.data.formats import dicom
from unet_jax.data.formats.dicom_frames import pydicom
from unet_jax.data.labels import LabelMap
from unet_jax.data.names import shown
from unet_jax.errors import InputError

# Of a pixel, or of the gap between slices: what lies further away lies elsewhere.
TOLERANCE = 0.1
# A region is so named in messages.
LISTED = 5


def mask_of(
    drawn: pydicom.Dataset, series: Sequence[pydicom.Dataset], labels: LabelMap | None
) -> UInt8[np.ndarray, "d h w"]:
    """The class of each pixel of a series.

    Args:
        drawn: a SEG or an RTSTRUCT.
        series: the slices, in the order of their positions.
        labels: which numbers of segments or regions are which class; other ones are left out. None where there is one.

    Raises:
        InputError: it is neither, belongs to another frame of reference, lies on another grid, has several segments and
            `labels` is None, or has two classes at one place. The message does not name the file.
    """
    first = series[0]
    frames = {str(one.get("FrameOfReferenceUID") or "") for one in (first, drawn)} - {""}
    if len(frames) > 1:
        raise InputError("is of another frame of reference than the series: give the one that was drawn on it.")
    modality = drawn.get("Modality")
    if modality not in ("SEG", "RTSTRUCT"):
        raise InputError(f"is {modality}, where SEG or RTSTRUCT is needed: restore or remove it.")
    names = _names(drawn, modality)
    if labels is None:
        if len(names) != 1:
            listed = ", ".join(f"{number} ({shown(name)})" for number, name in list(names.items())[:LISTED])
            raise InputError(
                f"has {len(names)} regions: {listed}: say which are meant with config.data.labels, such as "
                f"'tumour={next(iter(names), 1)}'."
            )
        labels = {"foreground": tuple(names)}
    shape = (len(series), int(first.Rows), int(first.Columns))
    mask = np.zeros(shape, np.uint8)
    draw = _segments if modality == "SEG" else _contours
    for number, values in label_maps.numbers(labels).items():
        region = draw(drawn, series, {value for value in values if value in names}, shape)
        if number != label_maps.IGNORED and mask[region].any():
            raise InputError("has two classes at one place: leave one of them out of config.data.labels.")
        mask[region] = number
    return mask


def _names(drawn: pydicom.Dataset, modality: str) -> dict[int, str]:
    if modality == "SEG":
        return {int(one.SegmentNumber): str(one.get("SegmentLabel", "")) for one in drawn.SegmentSequence}
    return {int(one.ROINumber): str(one.get("ROIName", "")) for one in drawn.StructureSetROISequence}


def _segments(
    drawn: pydicom.Dataset, series: Sequence[pydicom.Dataset], numbers: set[int], shape: tuple[int, int, int]
) -> Bool[np.ndarray, "d h w"]:
    pixels = drawn.pixel_array
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    region = np.zeros(shape, bool)
    if pixels.shape[1:] != shape[1:]:
        found = "x".join(map(str, pixels.shape[1:]))
        raise InputError(f"has {found} pixels and the series {shape[1]}x{shape[2]}: give it on the series' grid.")
    shared = (drawn.get("SharedFunctionalGroupsSequence") or [{}])[0]
    for frame, groups in zip(pixels, drawn.PerFrameFunctionalGroupsSequence, strict=True):
        place = pydicom.Dataset()
        for name, sequence in (
            ("ImagePositionPatient", "PlanePositionSequence"),
            ("ImageOrientationPatient", "PlaneOrientationSequence"),
        ):
            item = groups.get(sequence) or shared.get(sequence)
            setattr(place, name, item[0].get(name))
        slice_ = _slice_at(place, series)
        if drawn.SegmentationType == "LABELMAP":
            region[slice_] |= np.isin(frame, sorted(numbers))
            continue
        item = groups.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        if int(item[0].ReferencedSegmentNumber) not in numbers:
            continue
        half = int(drawn.MaximumFractionalValue) / 2 if drawn.SegmentationType == "FRACTIONAL" else 0.5
        region[slice_] |= frame >= half
    return region


def _slice_at(place: pydicom.Dataset, series: Sequence[pydicom.Dataset]) -> int:
    """The slice whose pixels a frame's are."""
    origin = dicom.numbers(place, "ImagePositionPatient", 3)
    turned = dicom.numbers(place, "ImageOrientationPatient", 6)
    if origin is None or turned is None:
        raise InputError("does not say where its frames lie: restore it.")
    origins = np.array([dicom.numbers(one, "ImagePositionPatient", 3) for one in series], np.float64)
    apart = np.linalg.norm(origins - origin, axis=1)
    nearest = int(apart.argmin())
    spacing = dicom.numbers(series[0], "PixelSpacing", 2)
    if apart[nearest] > TOLERANCE * (1 if spacing is None else spacing.min()) or (
        np.abs(turned - dicom.numbers(series[0], "ImageOrientationPatient", 6)).max() > dicom.SAME
    ):
        raise InputError(
            f"has a frame {apart[nearest]:.1f} mm away from the nearest slice, or tilted against it: give it on the "
            "series' grid."
        )
    return nearest


def _contours(
    drawn: pydicom.Dataset, series: Sequence[pydicom.Dataset], numbers: set[int], shape: tuple[int, int, int]
) -> Bool[np.ndarray, "d h w"]:
    """Each pixel whose centre lies within an odd number of the contours of its slice: holes are drawn as contours."""
    region = np.zeros(shape, bool)
    positions = np.array([dicom.position(one) for one in series])
    gap = np.median(np.diff(positions)) if len(positions) > 1 else float(series[0].get("SliceThickness") or 1)
    spacing = dicom.numbers(series[0], "PixelSpacing", 2)
    if spacing is None:
        raise InputError("is drawn in millimetres, and the series does not say its pixels' size: restore it.")
    directions = dicom.numbers(series[0], "ImageOrientationPatient", 6)
    for roi in drawn.get("ROIContourSequence") or ():
        if int(roi.ReferencedROINumber) not in numbers:
            continue
        of_roi = np.zeros(shape, bool)
        for contour in roi.get("ContourSequence") or ():
            if not str(contour.get("ContourGeometricType", "")).startswith("CLOSED"):
                continue
            points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
            heights = points @ dicom.normal(series[0])
            slice_ = int(np.abs(positions - heights.mean()).argmin())
            if np.abs(heights - positions[slice_]).max() > (0.5 + TOLERANCE) * gap:
                away = np.abs(heights - positions[slice_]).max()
                raise InputError(f"has a contour {away:.1f} mm away from the nearest slice: give the series it is of.")
            offsets = points - dicom.numbers(series[slice_], "ImagePositionPatient", 3)
            columns, rows = offsets @ directions[:3] / spacing[1], offsets @ directions[3:] / spacing[0]
            of_roi[slice_] ^= inside(rows, columns, shape[1:])
        region |= of_roi
    return region


def inside(
    rows: Float64[np.ndarray, " n"], columns: Float64[np.ndarray, " n"], shape: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """The pixels whose centres lie within a polygon, by the rule of even and odd.

    Args:
        rows: of the corners, in pixels; 0 is the centre of the first.
        columns: of the corners.
        shape: of the picture.
    """
    result = np.zeros(shape, bool)
    next_rows, next_columns = np.roll(rows, -1), np.roll(columns, -1)
    for row in range(max(0, int(np.ceil(rows.min()))), min(shape[0], int(np.floor(rows.max())) + 1)):
        crossing = (rows <= row) != (next_rows <= row)
        share = (row - rows[crossing]) / (next_rows[crossing] - rows[crossing])
        at = np.sort(columns[crossing] + share * (next_columns[crossing] - columns[crossing]))
        for start, end in zip(np.ceil(at[::2]), np.ceil(at[1::2]), strict=True):
            result[row, max(0, int(start)) : max(0, int(end))] = True
    return result

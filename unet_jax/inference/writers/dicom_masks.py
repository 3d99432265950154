"""Masks of DICOM series: one Segmentation object (PS3.3, A.51) per series, which refers to the series' slices."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.data import regions
from unet_jax.data.formats import dicom, dicom_frames
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.labels import LabelMap
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError
from unet_jax.inference.writers.kinds import without_background
from unet_jax.version import VERSION

try:
    import highdicom
    from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code
except ImportError as error:
    raise InputError("DICOM masks need the package highdicom: pip install .[dicom]") from error

# Fractional segmentations have 8 bits: probabilities are written as 0 to 255.
LEVELS = 255
SERIES_NUMBER = 9000
# Private coding schemes begin with 99 (PS3.3, 8.2).
OWN_CODES = "99UNETJAX"


def plan(files: CaseFiles, probabilities: bool, classes: LabelMap | None = None) -> list[Path]:
    """`<case>_mask.dcm` and, if asked for, `<case>_probability.dcm`, whatever the classes."""
    del classes
    if not files.images:
        return []
    kinds = ("mask", "probability") if probabilities else ("mask",)
    return [Path(f"{files.name}_{kind}.dcm") for kind in kinds]


def encode(
    files: CaseFiles,
    root: Path,
    mask: UInt8[np.ndarray, "d h w"],
    probability: Float32[np.ndarray, "d h w *k"] | None,
    classes: LabelMap | None = None,
) -> Iterator[tuple[Path, bytes]]:
    """Yields each file of `plan` with its bytes: a binary segmentation, and a fractional one of the probabilities.

    Each class is a segment. Patient, study and frame of reference are those of the series. Empty slices are left out,
    as the standard advises, unless all are empty. Of a study, whose series are the channels of a case, it refers to the
    first channel's.

    Args:
        files: the files of the series.
        root: the folder that their paths are relative to.
        mask: 0 and 1, or class numbers, with slices in the order of their positions.
        probability: in [0, 1], with slices in the same order; a background channel is not written.
        classes: the label map of several classes, whose names become the segments' labels.

    Raises:
        InputError: the series lacks something that a segmentation must refer to.
    """
    files = dicom.first_series(files, lambda path: read_file(root, path))
    series = [dataset for dataset, _ in dicom.read_series(files, lambda path: read_file(root, path))]
    if len(files.images) == 1 and series[0].frame is not None:
        # An enhanced file: the segmentation refers to its frames, in their own order.
        order = np.argsort([dataset.frame for dataset in series])
        series = [dicom_frames.parse(read_file(root, files.images[0]))]
        mask, probability = mask[order], None if probability is None else probability[order]
    if classes and regions.overlap(classes):
        mask = np.stack([regions.marked(mask, its).astype(np.uint8) for its in regions.members(classes)], axis=-1)
    kinds = [(SegmentationTypeValues.BINARY, mask)]
    if probability is not None:
        fractions = without_background(probability, classes) if classes else probability
        kinds.append((SegmentationTypeValues.FRACTIONAL, fractions))
    segments = [_segment(number, name) for number, name in enumerate(classes, 1)] if classes else [_tumour()]
    for number, (path, (kind, pixels)) in enumerate(zip(plan(files, probability is not None), kinds, strict=True)):
        try:
            with _quiet():
                segmentation = _segmentation(series, kind, pixels, segments, SERIES_NUMBER + number)
            data = io.BytesIO()
            segmentation.save_as(data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{shown(files.name)}: no DICOM segmentation can refer to this series "
                f"({' '.join(str(error).split())}): restore its files, or convert it to NIfTI."
            ) from error
        yield path, data.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what highdicom and pydicom say of empty masks and odd values in the series."""
    logger = logging.getLogger("highdicom")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _tumour() -> SegmentDescription:
    return _described(1, "tumour", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm)


def _segment(number: int, name: str) -> SegmentDescription:
    """A class with its name alone, because nothing says what it is anatomically."""
    concept = Code(f"class-{number}", OWN_CODES, name)
    return _described(number, name, codes.SCT.SpatialAndRelationalConcept, concept)


def _described(number: int, label: str, category: Code, concept: Code) -> SegmentDescription:
    algorithm = highdicom.AlgorithmIdentificationSequence("unet_jax", codes.DCM.ArtificialIntelligence, VERSION)
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=category,
        segmented_property_type=concept,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )


def _segmentation(
    series: list, kind: SegmentationTypeValues, pixels: np.ndarray, segments: list[SegmentDescription], number: int
) -> Segmentation:
    return Segmentation(
        source_images=series,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=number,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="unet_jax",
        manufacturer_model_name="unet_jax",
        software_versions=VERSION,
        device_serial_number="none",
        max_fractional_value=LEVELS,
    )

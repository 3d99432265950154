"""The reader of each layout, with all that the config says of the data; `layouts` finds out which layout lies there."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from unet_jax.data import intensity, labels, patients
from unet_jax.data.case import Case, check_finite
from unet_jax.data.formats import (
    dataset_json,
    label_files,
    lgg,
    listed,
    pairs,
    pattern_listing,
    patterned,
    patterns,
    pictures,
)
from unet_jax.data.formats.file_sorts import PICTURE_SUFFIXES
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.nifti_listing import DESCRIPTION
from unet_jax.data.reader import CaseFiles, Reader
from unet_jax.errors import InputError

# Layouts of folders that hold images and masks; "phantom" is the built-in data set in the layout of "lgg".
SOURCES = ("lgg", "pairs", "nifti", "dicom", "tfds", "patterns", "listed", "phantom")
# What is read as the LGG data are: three sequences of 8 bits.
LGG_SOURCES = ("lgg", "phantom", "tfds")
# Of volumes, whose axes a case's arrays have.
AXES = ("patient", "file", "ras")
# Of the channels red, green and blue.
GREEN = 1

Read = Callable[[Path], bytes]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The keys of `config.data` that decide how files become cases; see configs/default.py."""

    intensity: str = "auto"
    labels: str | None = None
    patient_pattern: str | None = None
    patient_csv: str | None = None
    images: str | None = None
    masks: str | None = None
    mask_threshold: int | None = None
    axes: str = "patient"
    regions_class_order: Sequence[int] | None = None


def settings(data: Mapping) -> Settings:
    """The settings among the keys of `config.data`."""
    return Settings(**{field.name: data[field.name] for field in dataclasses.fields(Settings)})


def unit(source: str, settings: Settings) -> str:
    """What a split keeps together: "patient" where the layout or the user tells patients, else "picture" or "case"."""
    named = settings.patient_pattern is not None or settings.patient_csv is not None
    if source in (*LGG_SOURCES, "dicom") or named:
        return "patient"
    if source == "patterns":
        pattern = patterns.parse(settings.images, patterns.IMAGES)
        if patterns.PATIENT in pattern.fields:
            return "patient"
        of_pictures = patterns.suffix(pattern) in PICTURE_SUFFIXES and patterns.SLICE not in pattern.fields
        return "picture" if of_pictures else "case"
    return "picture" if source == "pairs" else "case"


def notes(source: str, settings: Settings) -> list[str]:
    """What may surprise of a source with these settings, a sentence each."""
    what = unit(source, settings)
    if what == "patient":
        return []
    remedy = "set config.data.patient_pattern"
    if source == "patterns":
        remedy = "name it {patient} in config.data.images and config.data.masks, or set config.data.patient_pattern"
    return [
        f"Each {what} counts as a patient of its own: if one patient has several, {remedy} or config.data.patient_csv, "
        "or the split will not keep them together."
    ]


def channel_names(source: str, root: Path, channels: int, images: str | None = None) -> tuple[str, ...]:
    """What the channels of a data set's images are called, in order: by the layout, or else "sequence 1" and so on.

    Args:
        source: of `SOURCES`.
        root: the data set's folder.
        channels: how many the images have.
        images: their pattern, if any.
    """
    names: tuple[str, ...] = patterns.parse(images, patterns.IMAGES).channels or () if images else ()
    if source in LGG_SOURCES:
        names = lgg.SEQUENCES
    elif not names and (root / DESCRIPTION).is_file():
        with contextlib.suppress(InputError):  # the images are decoded already: a report can do without the names
            names = dataset_json.read(root / DESCRIPTION).channels
    return names if len(names) == channels else unnamed(channels)


def unnamed(channels: int) -> tuple[str, ...]:
    """What channels are called that nobody named."""
    return tuple(f"sequence {number + 1}" for number in range(channels))


def channel_to_show(source: str, names: Sequence[str]) -> int:
    """The channel that stands for an image where one is shown in grey.

    It is FLAIR of the LGG data, green of pictures in colour, which is nearest to what an eye sees, else the first.
    """
    if source in ("pairs", "patterns") and tuple(names) == unnamed(GREEN + 2):
        return GREEN
    return lgg.FLAIR if source in LGG_SOURCES and tuple(names) == lgg.SEQUENCES else 0


def intensity_mode(source: str, mode: str) -> str:
    """How the images of a source are scaled: LGG's have 8 bits throughout, which "auto" leaves as they are."""
    return "range" if mode == "auto" and source in LGG_SOURCES else mode


def as_read(source: str, pixels: np.ndarray, images: str | None = None) -> np.ndarray:
    """Numbers of any type as they are where a file of that type is read: uint8, or float32.

    Args:
        source: of the files that a network was trained on.
        pixels: of an image.
        images: the pattern of these files, if any.

    Raises:
        InputError: they are not real numbers; or whole ones beyond 0 to 255, where the files have 8 bits throughout.
    """
    if pixels.dtype.kind not in "biuf":
        raise InputError(f"the image is {pixels.dtype}; it must be whole or real numbers.")
    of_pictures = images is None or patterns.suffix(patterns.parse(images, patterns.IMAGES)) in PICTURE_SUFFIXES
    if source in ("nifti", "dicom", "listed") or not of_pictures:
        return pixels.astype(np.float32)
    if source in LGG_SOURCES and pixels.dtype.kind in "iu":
        if pixels.min() < 0 or pixels.max() > 255:
            raise InputError(
                f"the image is {pixels.dtype} from {pixels.min()} to {pixels.max()}; the network was trained on 8 "
                "bits: give it 0 to 255, or floats from 0 to 1."
            )
        return pixels.astype(np.uint8)
    return pictures.as_image(pixels)


def reader(root: Path, source: str, settings: Settings) -> Reader:
    """The reader of a data set with masks.

    Raises:
        InputError: a setting cannot be used, or nnU-Net's description of the data set.
    """
    intensity.check_mode(settings.intensity)
    turned = check_axes(settings.axes)
    label_map = _parsed(settings)
    grouping = patients.load(settings.patient_pattern, settings.patient_csv and Path(settings.patient_csv))
    mode = intensity_mode(source, settings.intensity)
    thresholded = _thresholded(settings.mask_threshold, label_map)
    if source in ("lgg", "phantom"):
        return normalised(lgg.DECODING, lgg.find, lgg.decode, mode)
    if source == "tfds":
        from unet_jax.data.formats import tfds_records

        records = tfds_records.Records(root)
        return normalised(tfds_records.DECODING, lambda _: records.listing, tfds_records.decode, mode, records.read)
    if source == "nifti":
        from unet_jax.data.formats import nifti

        description = nifti.read_description(root, label_map)
        return normalised(
            f"{nifti.DECODING}; {description}; {grouping.describe()}{thresholded}{turned}",
            lambda root: nifti.find(root, description, grouping),
            lambda files, read: nifti.decode(
                files, read, description.labels, len(description.channels), settings.mask_threshold, settings.axes
            ),
            mode,
        )
    if source == "dicom":
        from unet_jax.data.formats import dicom_study

        channels = patterns.of_descriptions(settings.images) if settings.images else None
        described = f"; {channels.text}" if channels else ""
        return normalised(
            f"{dicom_study.DECODING}{described}; labels {label_map}",
            lambda root: dicom_study.find(root, channels),
            lambda files, read: dicom_study.decode(files, read, label_map),
            mode,
        )
    if source == "pairs":
        return normalised(
            f"{pairs.DECODING}; labels {label_map}; {grouping.describe()}{thresholded}",
            lambda root: pairs.find(root, grouping),
            lambda files, read: pictures.decode(files, read, label_map, settings.mask_threshold),
            mode,
        )
    if source == "listed":
        labelled = label_map or dataset_json.label_map(dataset_json.read(root / DESCRIPTION), root / DESCRIPTION)
        return normalised(
            f"{patterned.DECODING}; listed; labels {labelled}; {grouping.describe()}{thresholded}{turned}",
            lambda root: patterned.with_decoders(listed.find(root, grouping)),
            lambda files, read: patterned.decode(files, read, labelled, settings.mask_threshold, settings.axes),
            mode,
        )
    if source == "patterns":
        images, masks = patterns.parse_pair(settings.images, settings.masks)
        _check_patients(images, settings)
        number_of = label_files.numbers(images, masks, label_map)
        return normalised(
            f"{patterned.DECODING}; {images.text}; {masks.text}; labels {label_map}; {grouping.describe()}"
            f"{thresholded}{turned}",
            lambda root: patterned.with_decoders(pattern_listing.find(root, images, masks, grouping)),
            lambda files, read: patterned.decode(
                files, read, label_map, settings.mask_threshold, settings.axes, number_of
            ),
            mode,
        )
    raise InputError(f"config.data.source is {source!r}; it must be one of auto, {', '.join(SOURCES)}.")


def label_map(root: Path, source: str, settings: Settings) -> labels.LabelMap:
    """What the masks of a data set tell apart; empty where nobody says.

    Raises:
        InputError: a setting cannot be used, or nnU-Net's description of the data set.
    """
    given = _parsed(settings)
    if source == "nifti":
        from unet_jax.data.formats import nifti

        return nifti.read_description(root, given).labels or {}
    if source == "listed":
        return given or dataset_json.label_map(dataset_json.read(root / DESCRIPTION), root / DESCRIPTION)
    if source == "patterns":
        return label_files.label_map(*patterns.parse_pair(settings.images, settings.masks), given) or given or {}
    return given or {} if source in ("pairs", "dicom") else {}


def _parsed(settings: Settings) -> labels.LabelMap | None:
    order = settings.regions_class_order
    # The command line makes (None,) of None.
    return labels.parse(settings.labels, None if order == (None,) else order)


def classes(root: Path, source: str, settings: Settings) -> labels.LabelMap:
    """The classes that the masks of a data set tell apart; empty where they tell one from background.

    Raises:
        InputError: a setting cannot be used, or nnU-Net's description of the data set.
    """
    found = labels.classes_of(label_map(root, source, settings))
    return found if len(found) > 1 else {}


def _check_patients(images: patterns.Pattern, settings: Settings) -> None:
    key = "patient_csv" if settings.patient_csv else "patient_pattern"
    if patterns.PATIENT in images.fields and (settings.patient_csv or settings.patient_pattern):
        raise InputError(f"{images}: its field {{patient}} and config.data.{key} both tell patients: take one out.")


def normalised(
    decoding: str,
    find: Callable,
    decode: Callable[[CaseFiles, Read], Case],
    mode: str,
    read: Callable[[Path, Path], bytes] = read_file,
) -> Reader:
    """A reader whose cases are checked, and their images scaled by `intensity.normalise`."""

    def decode_and_normalise(files: CaseFiles, read: Read) -> Case:
        case = decode(files, read)
        check_finite(case)
        return dataclasses.replace(case, image=intensity.normalise(case.image, mode))

    # What is the same for all files of a data set is part of DECODING; what is in the files is hashed with them.
    return Reader(decoding if mode == "range" else f"{decoding}; intensity {mode} 1", find, decode_and_normalise, read)


def check_axes(axes: str) -> str:
    """What a description says of a case's axes: nothing of those that were the only ones before there were others.

    Raises:
        InputError: there are none of this name.
    """
    if axes not in AXES:
        raise InputError(f"config.data.axes is {axes!r}; it must be one of {', '.join(AXES)}.")
    return "" if axes == "patient" else f"; axes {axes}"


def _thresholded(threshold: int | None, label_map: labels.LabelMap | None) -> str:
    """What a description says of a threshold: nothing where there is none, as before there were any."""
    if threshold is not None and len(labels.numbers(label_map or {})) > 1:
        raise InputError(
            "config.data: mask_threshold is for one class, and labels names several, or what to ignore: set one to "
            "None."
        )
    return "" if threshold is None else f"; mask from {threshold}"

"""Which reader a folder needs: guessed from what lies in it, or named; with all that the config says of the data."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from unet_jax.data import intensity, labels, patients
from unet_jax.data.cache import CaseFiles, Reader
from unet_jax.data.case import Case, check_finite
from unet_jax.data.formats import lgg, pairs
from unet_jax.data.formats.file_sorts import PICTURE_SUFFIXES, sort_of
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.image_header import SUFFIXES
from unet_jax.errors import InputError

# Layouts of folders that hold images and masks; "phantom" is the built-in data set in the layout of "lgg".
SOURCES = ("lgg", "pairs", "nifti", "tfds", "phantom")
# What is read as the LGG data are: three sequences of 8 bits.
LGG_SOURCES = ("lgg", "phantom", "tfds")
# A picture of the LGG data set: TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_12.
LGG_NAME = r"(?:[^/]+/)?(?P<patient>[^_/]+_[^_/]+_[^_/]+)_(?:[^/]*_)?(?P<slice>[0-9]+)"

Read = Callable[[Path], bytes]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The keys of `config.data` that decide how files become cases; see configs/default.py."""

    intensity: str = "auto"
    labels: str | None = None
    patient_pattern: str | None = None
    patient_csv: str | None = None


def guess(root: Path) -> tuple[str, str]:
    """The source of a folder of images and masks, and a sentence that says so.

    Raises:
        InputError: it is no folder, or holds none of the layouts.
    """
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder.")
    for source, what, holds in (
        ("nifti", "imagesTr (nnU-Net's layout)", lambda: (root / "imagesTr").is_dir()),
        ("tfds", "lgg_mri, built with TFDS", lambda: _has_tfds(root)),
        ("pairs", "images and masks", lambda: (root / "images").is_dir() and (root / "masks").is_dir()),
        ("lgg", "folders of scans as of Kaggle's LGG data", lambda: _has_lgg_scans(root)),
        ("pairs", "pictures with masks beside them", lambda: _has_masks_beside(root)),
    ):
        try:
            if holds():
                return source, f"Data: {root} holds {what} (config.data.source={source})."
        except OSError as error:
            raise InputError(f"{root}: cannot be read ({error.strerror}): mend its permissions.") from error
    raise InputError(
        f"{root}: holds neither imagesTr, labelsTr and dataset.json (nnU-Net), nor lgg_mri (TFDS), nor images and "
        "masks, nor folders of scans as of Kaggle's LGG data, nor <name>.png with <name>_mask.png: see docs/data.md."
    )


def settings(data: Mapping) -> Settings:
    """The settings among the keys of `config.data`."""
    return Settings(**{field.name: data[field.name] for field in dataclasses.fields(Settings)})


def notes(source: str, settings: Settings) -> list[str]:
    """What may surprise of a source with these settings, a sentence each."""
    if source == "pairs" and settings.patient_pattern is None and settings.patient_csv is None:
        return [
            "Each picture counts as a patient of its own: if one patient has several, set config.data.patient_pattern "
            "or config.data.patient_csv, or the split will not keep them together."
        ]
    return []


def intensity_mode(source: str, mode: str) -> str:
    """How the images of a source are scaled: LGG's have 8 bits throughout, which "auto" leaves as they are."""
    return "range" if mode == "auto" and source in LGG_SOURCES else mode


def reader(root: Path, source: str, settings: Settings) -> Reader:
    """The reader of a data set with masks.

    Raises:
        InputError: a setting cannot be used, or nnU-Net's description of the data set.
    """
    intensity.check_mode(settings.intensity)
    label_map = labels.parse(settings.labels)
    grouping = patients.load(settings.patient_pattern, settings.patient_csv and Path(settings.patient_csv))
    mode = intensity_mode(source, settings.intensity)
    if source in ("lgg", "phantom"):
        return _reader(lgg.DECODING, lgg.find, lgg.decode, mode)
    if source == "tfds":
        from unet_jax.data.formats import tfds_records

        records = tfds_records.Records(root)
        return _reader(tfds_records.DECODING, lambda _: records.listing, tfds_records.decode, mode, records.read)
    if source == "nifti":
        from unet_jax.data.formats import nifti

        description = nifti.read_description(root, label_map)
        return _reader(
            f"{nifti.DECODING}; {description}; {grouping.describe()}",
            lambda root: nifti.find(root, description, grouping),
            lambda files, read: nifti.decode(files, read, description.labels),
            mode,
        )
    if source == "pairs":
        return _reader(
            f"{pairs.DECODING}; labels {label_map}; {grouping.describe()}",
            lambda root: pairs.find(root, grouping),
            lambda files, read: pairs.decode(files, read, label_map),
            mode,
        )
    raise InputError(f"config.data.source is {source!r}; it must be one of auto, {', '.join(SOURCES)}.")


def classes(root: Path, source: str, settings: Settings) -> labels.LabelMap:
    """The classes that the masks of a data set tell apart; empty where they tell one from background.

    Raises:
        InputError: a setting cannot be used, or nnU-Net's description of the data set.
    """
    label_map = labels.parse(settings.labels)
    if source == "nifti":
        from unet_jax.data.formats import nifti

        label_map = nifti.read_description(root, label_map).labels
    elif source != "pairs":
        label_map = None
    return label_map if label_map and len(label_map) > 1 else {}


def image_reader(path: Path, settings: Settings) -> tuple[Reader, Path]:
    """The reader of images without masks, for prediction, and the root that its paths start from.

    `path` is a picture, a NIfTI or DICOM file, or a folder of one of these; masks of a training set are passed over.

    Raises:
        InputError: there is no such path, it holds no image, or images of several sorts.
    """
    intensity.check_mode(settings.intensity)
    sort = sort_of(path)
    if sort == "nifti":
        from unet_jax.data.formats import nifti

        folder = path / nifti.IMAGES
        root, found = nifti.find_images(folder if folder.is_dir() else path)

        def decode(files: CaseFiles, read: Read) -> Case:
            return nifti.decode(files, read, {})
    elif sort == "dicom":
        from unet_jax.data.formats import dicom

        root, found = dicom.find(path)
        decode = dicom.decode
    else:
        pattern = settings.patient_pattern
        if pattern is None and path.is_dir() and (_is_lgg_scan(path) or _has_lgg_scans(path)):
            pattern = LGG_NAME
        grouping = patients.load(pattern, settings.patient_csv and Path(settings.patient_csv))
        root, found = pairs.find_images(path, grouping)

        def decode(files: CaseFiles, read: Read) -> Case:
            return pairs.decode(files, read, None)

    return _reader(f"images only: {sort}", lambda _: found, decode, settings.intensity), root


def _reader(
    decoding: str,
    find: Callable,
    decode: Callable[[CaseFiles, Read], Case],
    mode: str,
    read: Callable[[Path, Path], bytes] = read_file,
) -> Reader:
    def decode_and_normalise(files: CaseFiles, read: Read) -> Case:
        case = decode(files, read)
        check_finite(case)
        return dataclasses.replace(case, image=intensity.normalise(case.image, mode))

    # What is the same for all files of a data set is part of DECODING; what is in the files is hashed with them.
    return Reader(decoding if mode == "range" else f"{decoding}; intensity {mode} 1", find, decode_and_normalise, read)


def _has_tfds(root: Path) -> bool:
    """Whether it is, or holds, the data set that tfds_lgg.py builds; told without importing TFDS."""
    return (root / "dataset_info.json").is_file() or (root / "lgg_mri").is_dir()


def _has_lgg_scans(root: Path) -> bool:
    return any(_is_lgg_scan(folder) for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _is_lgg_scan(folder: Path) -> bool:
    """Whether it holds a TIFF that begins with the folder's own name."""
    return any(
        file.suffix.lower() in SUFFIXES["TIFF"] and file.name.startswith(f"{folder.name}_") for file in folder.iterdir()
    )


def _has_masks_beside(root: Path) -> bool:
    return any(path.suffix.lower() in PICTURE_SUFFIXES and path.stem.endswith(pairs.MASK) for path in root.rglob("*"))

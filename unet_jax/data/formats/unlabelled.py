"""The reader of images without masks, for prediction: by a run's patterns, or by what the files are."""

from collections.abc import Callable
from pathlib import Path

from unet_jax.data import intensity, patients
from unet_jax.data.case import Case
from unet_jax.data.formats import lgg, pairs, pattern_listing, patterned, patterns, pictures, sources, table
from unet_jax.data.formats.file_sorts import sort_of
from unet_jax.data.formats.sources import Settings
from unet_jax.data.listing import entries
from unet_jax.data.reader import CaseFiles, Reader

# A picture of the LGG data set: TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_12.
LGG_NAME = r"(?:[^/]+/)?(?P<patient>[^_/]+_[^_/]+_[^_/]+)_(?:[^/]*_)?(?P<slice>[0-9]+)"

Read = Callable[[Path], bytes]


def image_reader(path: Path, settings: Settings, channels: int | None = None) -> tuple[Reader, Path]:
    """The reader of images without masks, for prediction, and the root that its paths start from.

    Args:
        path: a picture, a NIfTI or DICOM file, or a folder of one of these; masks of a training set are passed over.
        settings: the run's.
        channels: how many the network takes, which tells NIfTI files that are channels from those that are cases.

    Raises:
        InputError: there is no such path, it holds no image, or images of several sorts.
    """
    intensity.check_mode(settings.intensity)
    sources.check_axes(settings.axes)
    if settings.images and path.is_dir():
        return _by_patterns(path, settings) if settings.masks else _of_studies(path, settings)
    sort = sort_of(path)
    if sort == "volume":
        from unet_jax.data.formats import nifti, nifti_listing

        root, found = nifti_listing.find_images(path, channels)
        for files in found:
            table.check_packages(files.images)

        def decode(files: CaseFiles, read: Read) -> Case:
            return nifti.decode(files, read, {}, axes=settings.axes)
    elif sort == "dicom":
        from unet_jax.data.formats import dicom, dicom_listing

        root, found = dicom_listing.find(path)
        decode = dicom.decode
    else:
        pattern = settings.patient_pattern
        if pattern is None and path.is_dir() and (lgg.is_scan(path) or lgg.holds_scans(path)):
            pattern = LGG_NAME
        grouping = patients.load(pattern, settings.patient_csv and Path(settings.patient_csv))
        root, found = pairs.find_images(path, grouping)

        def decode(files: CaseFiles, read: Read) -> Case:
            return pictures.decode(files, read, None)

    return sources.normalised(f"images only: {sort}", lambda _: found, decode, settings.intensity), root


def _of_studies(root: Path, settings: Settings) -> tuple[Reader, Path]:
    """Of DICOM, whose channels are told by the descriptions of their series."""
    from unet_jax.data.formats import dicom_study

    found = dicom_study.find(root, patterns.of_descriptions(settings.images), masks=False)

    def decode(files: CaseFiles, read: Read) -> Case:
        return dicom_study.decode(files, read, None)

    return sources.normalised("images only: studies", lambda _: found, decode, settings.intensity), root


def _by_patterns(root: Path, settings: Settings) -> tuple[Reader, Path]:
    images = patterns.parse(settings.images, patterns.IMAGES)
    masks = patterns.parse(settings.masks, patterns.MASKS)
    found = pattern_listing.find_images(root, entries(root), images, masks)

    def decode(files: CaseFiles, read: Read) -> Case:
        return patterned.decode(files, read, None, axes=settings.axes)

    return sources.normalised("images only: patterns", lambda _: found, decode, settings.intensity), root

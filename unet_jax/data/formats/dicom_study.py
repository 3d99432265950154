"""DICOM to train on: studies with the series of each channel, and the SEG or RTSTRUCT that was drawn on one of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError, lines_of
from unet_jax.data.formats import dicom, dicom_frames, dicom_listing, dicom_regions
from unet_jax.data.formats.dicom_frames import Slice, pydicom
from unet_jax.data.formats.dicom_listing import Facts, described
from unet_jax.data.formats.patterns import CHANNEL, Pattern, composed
from unet_jax.data.labels import LabelMap
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError
from unet_jax.wording import count

DECODING = "dicom 1: series by position, SEG and RTSTRUCT as masks"


def find(root: Path, channels: Pattern | None = None, *, masks: bool = True) -> list[CaseFiles]:
    """Lists the studies under a folder, each a case with the files of its channels one after the other.

    Args:
        root: the data set's folder.
        channels: the pattern of the descriptions of series, of which one of each study is each channel's: see
            `patterns.of_descriptions`; None where each study has one series, localizers left out.
        masks: whether each study must have one SEG or RTSTRUCT, which is then the mask.

    Returns:
        cases named after their studies' folders; what is left over of a study is in `beside`.

    Raises:
        InputError: a folder cannot be read, or holds no DICOM file.
    """
    studies: dict[str, list[Facts]] = {}
    for one in dicom_listing.read_facts(root):
        studies.setdefault(one.study, []).append(one)
    if not studies:
        raise InputError(f"{root}: holds no DICOM file: name a folder of studies.")
    return [_case(root, files, channels, masks) for files in studies.values()]


def decode(files: CaseFiles, read: Callable[[Path], bytes], labels: LabelMap | None) -> Case:
    """Reads, checks and stacks the series of one study, and its mask.

    Args:
        files: what `find` said of the study.
        read: gives the bytes of a path of `files`, or raises InputError.
        labels: which numbers of segments or regions are which class: see `dicom_regions.mask_of`.

    Returns:
        image float32 [slices, rows, columns, channels], mask of classes or None, spacing in mm.

    Raises:
        InputError: every fault of the study, one line each.
    """
    faults, parsed = list(files.faults), []
    for path in files.images:
        try:
            parsed += dicom_frames.read(read(path), path)
        except InputError as error:
            faults += lines_of(error)
    series: dict[str, list[Slice]] = {}
    for one in parsed:
        series.setdefault(str(one[0].get("SeriesInstanceUID")), []).append(one)
    if not faults:
        faults = [line for of in series.values() for line in dicom.faults_of(files.name, [one for one, _ in of])]
    if faults:
        raise FaultsError(faults)
    stacks = [sorted(of, key=lambda one: dicom.position(one[0])) if len(of) > 1 else of for of in series.values()]
    datasets = [[dataset for dataset, _ in of] for of in stacks]
    faults = [line for of in datasets[1:] for line in _elsewhere(datasets[0], of)]
    if faults:
        raise FaultsError(faults)
    image = np.stack([np.stack([pixels for _, pixels in of]) for of in stacks], axis=-1)
    mask = _mask(files, read, datasets[0], labels) if files.masks else None
    patient = str(datasets[0][0].get("PatientID") or files.patient)
    return Case(files.name, patient, image, mask, dicom.spacing_of(datasets[0]))


def _case(root: Path, files: Sequence[Facts], channels: Pattern | None, masks: bool) -> CaseFiles:
    name = _folder(root, files)
    scans = [one for one in files if one.is_picture and not one.is_localizer]
    series: dict[str, list[Facts]] = {}
    for one in scans:
        series.setdefault(one.series, []).append(one)
    chosen, faults = _chosen(name, series, channels)
    drawn = [one for one in files if one.modality in dicom_listing.MASKS] if masks else []
    if masks and len(drawn) != 1:
        found = ", ".join(shown(one.path) for one in drawn) or "none"
        faults.append(Fault(name, f"needs one SEG or RTSTRUCT, and has {found}: leave one there.", "masks of a study"))
    images = tuple(one.path for of in chosen for one in of)
    used = {*images, *(one.path for one in drawn)}
    beside = described([one for one in files if one.path not in used])
    return CaseFiles(name, name, images, tuple(one.path for one in drawn[:1]), tuple(faults), beside)


def _chosen(
    name: str, series: Mapping[str, list[Facts]], channels: Pattern | None
) -> tuple[list[list[Facts]], list[str]]:
    """The files of each channel's series, in the channels' order, and what is wrong."""
    listed = ", ".join(
        f"{shown(of[0].description or 'without a description')} ({count(len(of), 'file')})" for of in series.values()
    )
    if channels is None:
        if len(series) == 1:
            return list(series.values()), []
        mistake = (
            f"has {len(series)} series ({listed or 'only files without pictures'}), where one is needed: name the "
            "channels by words of these descriptions, as in --config.data.images='*{channel:FLAIR|T1}*'."
        )
        return [], [Fault(name, mistake, "series of a study")]
    channel_of = {uid: _channel(of[0].description, channels) for uid, of in series.items()}
    chosen, faults = [], []
    for channel in channels.channels:
        fitting = [of for uid, of in series.items() if channel_of[uid] == channel.casefold()]
        if len(fitting) != 1:
            mistake = f"has {len(fitting)} series for the channel {shown(channel)} of {channels}, of {listed}"
            mistake = f"{mistake}: let the pattern match the description of one."
            faults.append(Fault(name, mistake, f"channel {channel}"))
        chosen += fitting[:1]
    return chosen, faults


def _channel(description: str, channels: Pattern) -> str | None:
    """The channel of a series, in small letters; None where the pattern does not match its description."""
    found = channels.regex.fullmatch(composed(description))
    return found[CHANNEL].casefold() if found else None


def _elsewhere(first: Sequence[pydicom.Dataset], other: Sequence[pydicom.Dataset]) -> list[str]:
    """A line where the slices of two series do not lie at the same places."""
    grids = [(len(of), int(of[0].Rows), int(of[0].Columns)) for of in (first, other)]
    where = shown(other[0].filename)
    if grids[0] != grids[1]:
        sizes = ["x".join(map(str, grid)) for grid in grids]
        mistake = f"its series is {sizes[1]} pixels and that of {shown(first[0].filename)} {sizes[0]}"
        return [Fault(where, f"{mistake}: resample it to that series.", "sizes of series")]
    one, two = (
        np.array([dicom.numbers(each, "ImagePositionPatient", 3) for each in of], float) for of in (first, other)
    )
    apart = np.linalg.norm(one - two, axis=1).max() if len(first) > 1 else 0.0
    spacing = dicom.numbers(first[0], "PixelSpacing", 2)
    if apart > dicom_regions.TOLERANCE * (1 if spacing is None else spacing.min()):
        mistake = f"its series lies up to {apart:.1f} mm away from that of {shown(first[0].filename)}"
        return [Fault(where, f"{mistake}: register and resample it.", "places of series")]
    return []


def _mask(
    files: CaseFiles, read: Callable[[Path], bytes], series: Sequence[pydicom.Dataset], labels: LabelMap | None
) -> np.ndarray:
    [path] = files.masks
    try:
        data = read(path)
        drawn = dicom_frames.parse(data)
        if drawn.get("Modality") == "SEG":
            dicom_frames.check_claims(drawn, 8 * len(data))  # of one bit a pixel
        return dicom_regions.mask_of(drawn, series, labels)
    except InputError as error:
        raise FaultsError([Fault(path, str(error))]) from error
    except Exception as error:  # pydicom promises no kind of exception for damaged bytes
        mistake = f"is damaged, or lacks what a SEG or RTSTRUCT must have ({dicom_frames.one_line(error)}): restore it."
        raise FaultsError([Fault(path, mistake)]) from error


def _folder(root: Path, files: Sequence[Facts]) -> str:
    """The deepest folder that holds all files, or the root's name."""
    together = files[0].path.parent
    while not all(one.path.is_relative_to(together) for one in files):
        together = together.parent
    return together.as_posix() if together != Path() else root.resolve().name

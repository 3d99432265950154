"""Which DICOM files are which series, and what lies beside them: told by their headers, without pixels."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from unet_jax.data.formats import dicom_frames
from unet_jax.data.formats.file_sorts import sort_of_file
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.listing import entries
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

# A series of less than this share of its folder's largest is a bystander, such as a key image.
SMALL = 0.5
# How scanners call the pictures from which a scan was planned, in a description or an image type.
LOCALIZERS = ("localizer", "localiser", "scout", "survey", "topogram", "surview")
MASKS = ("SEG", "RTSTRUCT")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a file's header says.

    Attributes:
        path: from the data set's root.
        study: its UID, as the others; "" where it is missing or the file is damaged.
        series: its UID.
        instance: its UID.
        description: of the series.
        modality: such as MR or SEG.
        is_picture: whether it has pixels of a scan; a damaged file counts as one: reading it says what is wrong.
        is_localizer: whether it says that it is one.
    """

    path: Path
    study: str
    series: str
    instance: str
    description: str
    modality: str
    is_picture: bool
    is_localizer: bool


def find(path: Path) -> tuple[Path, list[CaseFiles]]:
    """Lists a DICOM file, or every series under a folder as a case of its own, named after the folder.

    A series whose files lie in several folders is one case; copies of it are cases of their own. Localizers, files that
    hold no picture of a scan, and in each folder a series much smaller than its largest are passed over: see
    `CaseFiles.beside`. Other files, and DICOMDIR, are not looked at.

    Returns:
        the root that the paths start from, and cases without masks.

    Raises:
        InputError: there is no DICOM file with a picture.
    """
    if path.is_file():
        return path.parent, [CaseFiles(path.stem, path.stem, (Path(path.name),), ())]
    facts = read_facts(path)
    if not facts:
        raise InputError(f"{path}: holds no DICOM file: name a DICOM file, or a folder of them.")
    folders: dict[Path, list[Facts]] = {}
    for one in facts:
        folders.setdefault(one.path.parent, []).append(one)
    kept, beside = {}, {}
    for folder, files in folders.items():
        kept[folder], beside[folder] = _parted(files)
    groups = [group for group in _joined(kept) if any(kept[folder] for folder in group)]
    if not groups:
        raise InputError(f"{path}: holds no picture, but {described(facts)}: name a folder that holds a series.")
    return path, [_case(path, group, kept, beside) for group in groups]


def read_facts(root: Path) -> list[Facts]:
    """The facts of every DICOM file under a folder."""
    return [_facts(root, path) for path in entries(root) if sort_of_file(root / path) == "dicom"]


def described(facts: Sequence[Facts]) -> str:
    """Files in a few words, such as "1 of SR (dose.dcm)"."""
    kinds: dict[str, list[Facts]] = {}
    for one in facts:
        what = "a localizer" if one.is_localizer else one.description if one.is_picture else one.modality
        kinds.setdefault(what or "no description", []).append(one)
    return ", ".join(f"{len(of)} of {shown(what)} ({shown(of[0].path)})" for what, of in kinds.items())


def _facts(root: Path, path: Path) -> Facts:
    try:
        dataset = dicom_frames.parse(read_file(root, path))
        kinds = [str(kind).lower() for kind in dataset.get("ImageType") or ()]
        description, modality = str(dataset.get("SeriesDescription") or ""), str(dataset.get("Modality") or "")
        return Facts(
            path,
            str(dataset.get("StudyInstanceUID") or ""),
            str(dataset.get("SeriesInstanceUID") or ""),
            str(dataset.get("SOPInstanceUID") or ""),
            description,
            modality,
            "PixelData" in dataset and modality not in MASKS,
            any(word in text for word in LOCALIZERS for text in (*kinds, description.lower())),
        )
    except Exception:  # pydicom promises no kind of exception; decoding finds what is wrong and says so
        return Facts(path, "", "", "", "", "", True, False)


def _parted(files: Sequence[Facts]) -> tuple[list[Facts], list[Facts]]:
    """The pictures to read of a folder, and what is beside them."""
    pictures = [one for one in files if one.is_picture]
    scans = [one for one in pictures if not one.is_localizer] or pictures
    sizes: dict[str, int] = {}
    for one in scans:
        sizes[one.series] = sizes.get(one.series, 0) + 1
    largest = max(sizes.values(), default=0)
    scans += [one for one in files if not one.is_picture and one.series in sizes]  # slices without their pixels
    kept = [one for one in scans if not one.series or sizes[one.series] >= SMALL * largest]
    return kept, [one for one in files if one not in kept]


def _joined(kept: dict[Path, list[Facts]]) -> list[list[Path]]:
    """Folders, those together that hold different files of one and the same series."""
    groups: list[list[Path]] = []
    for folder, files in kept.items():
        series, instances = {one.series for one in files}, {one.instance for one in files}
        for group in groups:
            there = [one for other in group for one in kept[other]]
            same = len(series) == 1 and "" not in series and {one.series for one in there} == series
            if same and not instances & {one.instance for one in there}:
                group.append(folder)
                break
        else:
            groups.append([folder])
    return groups


def _case(
    root: Path, folders: Sequence[Path], kept: dict[Path, list[Facts]], beside: dict[Path, list[Facts]]
) -> CaseFiles:
    together = folders[0]
    while not all(folder.is_relative_to(together) for folder in folders):
        together = together.parent
    name = together.as_posix() if together != Path() else root.resolve().name
    images = tuple(sorted(one.path for folder in folders for one in kept[folder]))
    others = [one for folder in folders for one in beside[folder]]
    return CaseFiles(name, name, images, (), beside=described(others))

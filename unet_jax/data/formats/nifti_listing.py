"""Which volumes are which channel of which case: nnU-Net's raw layout, and files to predict on.

A name that can be read two ways is a fault that names both, and no file is left out in silence.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_jax.data.faults import Fault, lines_of
from unet_jax.data.formats.file_sorts import VOLUME_SUFFIXES
from unet_jax.data.formats.table import format_of
from unet_jax.data.listing import entries, files_under, folder_named, has_suffix
from unet_jax.data.names import shown
from unet_jax.data.patients import Patients
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError
from unet_jax.wording import count

DESCRIPTION = "dataset.json"
IMAGES, LABELS = "imagesTr", "labelsTr"
# Folders in which four digits at the end of a name are a channel, by nnU-Net's layout.
OF_CHANNELS = {"imagestr", "imagests"}
OF_LABELS = {"labelstr", "labelsts"}
# How people call a mask that lies beside its scan.
MASK_MARKS = ("_seg", "_mask")
# Files that a message names.
SHOWN = 3


def find(root: Path, channels: int, ending: str, cases: int | None, patients: Patients) -> list[CaseFiles]:
    """Lists the cases to train on, the channels of each in order.

    Each case is a patient of its own, unless `patients` tells them apart otherwise. Hidden files are passed over.

    Args:
        root: the folder with `imagesTr` and `labelsTr`, in whatever capital letters.
        channels: that dataset.json names.
        ending: of the files, as dataset.json has it.
        cases: how many dataset.json says there are, if it does.
        patients: whose a case is.

    Raises:
        InputError: a folder is missing, or cannot be read.
    """
    faults: list[str] = []
    images = _by_stem(root, IMAGES, ending, faults)
    labels = _by_stem(root, LABELS, ending, faults)
    by_case = _by_case(images, labels, ending, faults)
    placed = {path for numbered in by_case.values() for path in numbered.values()}
    refused = {stem for stem, path in images.items() if path not in placed}
    spare = {stem: path for stem, path in labels.items() if stem not in by_case and stem not in refused}
    # Files by themselves may hold several channels each: decoding finds out.
    alone = all(numbered.keys() == {0} for numbered in by_case.values())
    listing = []
    for name, numbered in by_case.items():
        wrong = [] if name in labels else [_no_label(root, name, ending, spare)]
        if not alone and numbered.keys() != set(range(channels)):
            wrong.append(wrong_channels(name, sorted(numbered), channels))
        listing.append(_case_files(name, numbered, labels.get(name), patients, wrong))
    faults += [Fault(path, "this mask has no image: add it or remove this file.") for path in spare.values()]
    there = len(by_case.keys() | (refused & labels.keys()))
    if cases not in (None, there):
        faults.append(Fault(DESCRIPTION, f"says numTraining {cases}, and {IMAGES} holds {count(there, 'case')}."))
    return [*listing, CaseFiles("listing", "", (), (), tuple(sorted(faults)))] if faults else listing


def wrong_channels(name: str, found: Sequence[int], channels: int) -> Fault:
    """The fault of a case with these channels, where so many are needed."""
    there, needed = (", ".join(f"{n:04d}" for n in numbers) for numbers in (found, range(channels)))
    mistake = f"has the channels {there}, and {needed} are needed by {DESCRIPTION}."
    return Fault(f"{IMAGES}/{name}", mistake, "channels")


def find_images(path: Path, channels: int | None = None) -> tuple[Path, list[CaseFiles]]:
    """Lists a volume, or those under a folder, for prediction.

    `<case>_0000.nii.gz`, `<case>_0001.nii.gz`, … are the channels of one case, also where only one of them is named; a
    file whose name ends otherwise is a case of one channel. Masks beside the scans are passed over.

    Args:
        path: the file or folder; in a folder with `imagesTr`, the files there.
        channels: how many the network takes; None where that is not known.

    Returns:
        the root that the paths start from, and cases without masks.

    Raises:
        InputError: there is no such file, or a folder cannot be read.
    """
    if path.suffix.lower() == ".img":  # the other half is the header
        path = path.with_suffix(".HDR" if path.suffix.isupper() else ".hdr")
    if path.is_file():
        return path.parent, _of_file(path, channels)
    root = path / (folder_named(path, IMAGES) or "")
    files = [file for file in files_under(root, VOLUME_SUFFIXES) if not _is_label(file)]
    files = [file for file in files if not _is_mask_beside(file, files)]
    if not files:
        raise InputError(f"{path}: holds no file that ends in {' or '.join(VOLUME_SUFFIXES)}.")
    by_case: dict[Path, list[Path]] = {}
    for file in files:
        by_case.setdefault(file.with_name(_case_and_channel(file.name)[0]), []).append(file)
    return root, [_to_predict(root, case, group, channels) for case, group in sorted(by_case.items())]


def _of_file(path: Path, channels: int | None) -> list[CaseFiles]:
    """The case of a file that was named: with its other channels, where the network takes several."""
    name, _ = _case_and_channel(path.name)
    beside = [Path(file) for file in sorted(file.name for file in path.parent.iterdir()) if _is_scan(Path(file))]
    group = [file for file in beside if _case_and_channel(file.name)[0] == name]
    if channels == 1 or len(group) == 1:
        number = _case_and_channel(path.name)[1]
        group, name = [Path(path.name)], _stem(path.name) if number else name
        return [_case_files(name, {0: group[0]}, None, Patients(), [])]
    return [_to_predict(path.parent, Path(name), group, channels)]


def _to_predict(root: Path, case: Path, group: Sequence[Path], channels: int | None) -> CaseFiles:
    numbered: dict[int, Path] = {}
    faults: list[str] = []
    for file in group:
        channel = _case_and_channel(file.name)[1] or 0
        if channel in numbered:
            mistake = f"can be read as channel {channel} of {shown(case)}, and so can {shown(numbered[channel])}"
            faults.append(Fault(file, f"{mistake}: rename or remove one of them.", "read as one channel"))
        numbered.setdefault(channel, file)
    # In nnU-Net's folders, four digits are a channel; elsewhere they may as well be the number of a case.
    certain = OF_CHANNELS & {root.name.lower(), case.parent.name.lower()}
    whole = numbered.keys() == set(range(len(numbered)))
    # A file by itself may hold several channels.
    alone = numbered.keys() == {0}
    if not faults and not (whole and (certain or alone or channels in (None, len(numbered)))):
        numbers = ", ".join(map(str, sorted(numbered)))
        lacking = f"the network takes {channels} of them" if whole else "one before or between them is missing"
        mistake = f"has the channels {numbers}, and {lacking}: restore it."
        if not certain:
            files = ", ".join(shown(file) for file in group[:SHOWN]) + (", …" if len(group) > SHOWN else "")
            mistake = (
                f"{files} can be read as the channels {numbers} of this case, and {lacking}; or as a case each, which "
                "are then named <case>_0000.nii.gz: rename them."
            )
        faults.append(Fault(case, mistake, "channels or cases"))
    return _case_files(case.as_posix(), numbered, None, Patients(), faults)


def _by_stem(root: Path, folder: str, ending: str, faults: list[str]) -> dict[str, Path]:
    """The files of a folder of nnU-Net's layout, by their names without ending."""
    place = folder_named(root, folder)
    if place is None:
        raise InputError(f"{root / folder}: there is no such folder; nnU-Net's raw layout needs {IMAGES} and {LABELS}.")
    found: dict[str, Path] = {}
    others = []
    for path in files_under(root, VOLUME_SUFFIXES, place):
        if path.parent != place:
            mistake = f"lies deeper than nnU-Net's layout has it: move it to {shown(place)}, or out of it."
            faults.append(Fault(path, mistake, f"deeper {folder}"))
        elif not has_suffix(path, [ending]):
            others.append(path)
        elif (stem := _stem(path.name)) in found:
            mistake = f"is called as {shown(found[stem])} is: rename or remove one of them."
            faults.append(Fault(path, mistake, "called alike"))
        else:
            found[stem] = path
    for path in others:
        if twin := found.get(_stem(path.name)):
            mistake = f"is called as {shown(twin)} is, and could be meant as well: remove one of them."
        else:
            mistake = f"does not end in {ending}, as {DESCRIPTION} says of all files: convert or remove it."
        faults.append(Fault(path, mistake, f"ending {twin is None}"))
    return found


def _by_case(
    images: Mapping[str, Path], labels: Mapping[str, Path], ending: str, faults: list[str]
) -> dict[str, dict[int, Path]]:
    cases: dict[str, dict[int, Path]] = {}
    labelled = Counter(_case_and_channel(stem)[0] for stem in labels)
    for stem, path in images.items():
        name, channel = _case_and_channel(path.name)
        if channel is None:
            mistake = f"is not named <case>_<four digits of the channel>{ending}: rename or remove it."
            faults.append(Fault(path, mistake, "no channel"))
        elif stem in labels and name not in labels and (channel or labelled[name] > 1):
            faults.append(
                Fault(
                    path,
                    f"can be read as channel {channel} of {shown(name)}, or as the case {shown(stem)}, whose mask is "
                    f"{shown(labels[stem])}: then name it {shown(stem)}_0000{ending}.",
                    "channel or case",
                )
            )
        else:
            cases.setdefault(name, {})[channel] = path
    return cases


def _no_label(root: Path, name: str, ending: str, spare: dict[str, Path]) -> Fault:
    """The fault of a case without a mask; the mask that may be meant leaves `spare`."""
    mistake = "is missing, and its image is there"
    near = next((stem for stem in spare if stem.casefold() == name.casefold()), None)
    near = near or next((stem for stem in spare if re.fullmatch(rf"{re.escape(name)}[^A-Za-z0-9].*", stem)), None)
    if near is not None:
        remedy = f"{mistake}; {shown(spare.pop(near))} may be it: rename it."
        return Fault(f"{LABELS}/{name}{ending}", remedy, "label under another name")
    unread = next((path for path in entries(root, folder_named(root, LABELS)) if path.name.split(".")[0] == name), None)
    if unread is not None and not has_suffix(unread, VOLUME_SUFFIXES):
        remedy = f"{mistake}; {shown(unread)} is of a kind that is not read as a mask: convert it."
        return Fault(f"{LABELS}/{name}{ending}", remedy, "label of another kind")
    return Fault(f"{LABELS}/{name}{ending}", f"{mistake}.")


def _case_files(
    name: str, channels: Mapping[int, Path], mask: Path | None, patients: Patients, faults: list[str]
) -> CaseFiles:
    try:
        patient = patients.place(name).patient
    except InputError as error:
        patient, faults = "", [*faults, *lines_of(error)]
    images = tuple(channels[number] for number in sorted(channels))
    return CaseFiles(name, patient, images, () if mask is None else (mask,), tuple(faults), channels=len(images) or 1)


def _stem(name: str) -> str:
    found = format_of(Path(name))
    return name[: -len(found[1])] if found else name


def _case_and_channel(name: str) -> tuple[str, int | None]:
    stem = _stem(name)
    numbered = re.fullmatch(r"(.+)_([0-9]{4})", stem)
    return (numbered[1], int(numbered[2])) if numbered else (stem, None)


def _is_scan(path: Path) -> bool:
    return has_suffix(path, VOLUME_SUFFIXES) and not path.name.startswith(".")


def _is_label(path: Path) -> bool:
    return any(part.lower() in OF_LABELS for part in path.parts[:-1])


def _is_mask_beside(path: Path, files: Sequence[Path]) -> bool:
    """Whether it is called like a mask of another of the files in its folder, such as anna_seg beside anna_flair."""
    stem = _stem(path.name)
    mark = next((mark for mark in MASK_MARKS if stem.lower().endswith(mark)), None)
    return mark is not None and any(
        other.parent == path.parent and other != path and other.name.startswith(stem[: -len(mark)]) for other in files
    )

"""Folders of pairs: which pictures and masks are which case, in `images/` and `masks/` or side by side.

root/images/anna_03.png         root/masks/anna_03.png (or anna_03_mask.png)
root/train/images/anna_03.png   root/train/masks/anna_03.png, and so on in val and test
root/anna/03.tif                root/anna/03_mask.tif
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from unet_jax.data.faults import Fault, lines_of
from unet_jax.data.formats.pairing import listed, unpaired
from unet_jax.data.names import shown
from unet_jax.data.patients import Patients, Place
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

DECODING = "pairs 1: channels in file order, 16 bits over 65535"


def find(root: Path, patients: Patients) -> list[CaseFiles]:
    """Lists the cases under a folder, images paired with masks by name.

    A name is the path without suffix, from `images/` and `masks/` or else from the root, such as "anna/03". Hidden
    files and files of other sorts are passed over.

    Raises:
        InputError: the folder holds no picture, or cannot be read.
    """
    found = listed(root)
    images, masks = found.images, found.masks
    faults = found.faults + unpaired(root, images, masks)
    return _cases({name: images[name] for name in images.keys() & masks.keys()}, masks, patients.place, faults)


def find_images(path: Path, patients: Patients) -> tuple[Path, list[CaseFiles]]:
    """Lists a picture, or the pictures under a folder, for prediction: masks beside them are passed over.

    A picture whose name tells no patient stands alone.

    Returns:
        the root that the paths start from, and cases without masks.

    Raises:
        InputError: there is no picture.
    """

    def place(name: str) -> Place:
        try:
            return patients.place(name)
        except InputError:
            return Place(name, name)

    if path.is_file():
        return path.parent, _cases({path.stem: Path(path.name)}, {}, place, [])
    found = listed(path)
    return path, _cases(found.images, {}, place, found.faults)


def _cases(
    images: Mapping[str, Path], masks: Mapping[str, Path], place_of: Callable[[str], Place], faults: list[str]
) -> list[CaseFiles]:
    """Pictures with a slice's number are put together by patient and scan, in the order of their numbers."""
    scans: dict[tuple[str, str], dict[int | None, str]] = defaultdict(dict)
    for name in sorted(images):
        try:
            place = place_of(name)
        except InputError as error:
            faults += lines_of(error)
            continue
        slices = scans[place.patient, place.scan]
        if place.number in slices:
            other = shown(images[slices[place.number]])
            mistake = f"is slice {place.number} of {shown(place.patient)}, as is {other}."
            faults.append(Fault(images[name], mistake, "slice twice"))
        slices.setdefault(place.number, name)

    of_patient = defaultdict(int)
    for patient, _ in scans:
        of_patient[patient] += 1
    cases = []
    for (patient, scan), slices in scans.items():
        names = [slices[number] for number in sorted(slices, key=lambda number: number or 0)]
        cases.append(
            CaseFiles(
                name=patient if of_patient[patient] == 1 else scan.rstrip("/_- "),
                patient=patient,
                images=tuple(images[name] for name in names),
                masks=tuple(masks[name] for name in names if name in masks),
            )
        )
    if faults:
        cases.append(CaseFiles("listing", "", (), (), tuple(faults)))
    return cases

"""Folders of pairs to cases: a picture and its mask, in `images/` and `masks/` or side by side.

root/images/anna_03.png         root/masks/anna_03.png (or anna_03_mask.png)
root/train/images/anna_03.png   root/train/masks/anna_03.png, and so on in val and test
root/anna/03.tif                root/anna/03_mask.tif
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.data import labels as label_maps
from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError, lines_of
from unet_jax.data.formats import table
from unet_jax.data.formats.image_file import decode_or_note
from unet_jax.data.formats.pairing import listed, unpaired
from unet_jax.data.labels import LabelMap
from unet_jax.data.listing import has_suffix
from unet_jax.data.names import shown
from unet_jax.data.patients import Patients, Place
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError

DECODING = "pairs 1: channels in file order, 16 bits over 65535"

JPEG_SUFFIXES = (".jpg", ".jpeg")


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
    faults += [
        Fault(path, "is a mask as JPEG, which changes its values: save it as PNG or TIFF.")
        for path in masks.values()
        if has_suffix(path, JPEG_SUFFIXES)
    ]
    usable = {name: path for name, path in masks.items() if not has_suffix(path, JPEG_SUFFIXES)}
    return _cases({name: images[name] for name in images.keys() & usable.keys()}, usable, patients.place, faults)


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


def decode(files: CaseFiles, read: Callable[[Path], bytes], labels: LabelMap | None) -> Case:
    """Reads, checks and stacks the slices of one case.

    Args:
        files: what `find` or `find_images` said of the case.
        read: gives the bytes of a path of `files`, or raises InputError.
        labels: which values of the masks are which class; None where they hold 0 and 1 or 0 and 255.

    Returns:
        image uint8, or float32 where the files have 16 bits (0 to 65535 as 0 to 1) or floats; mask of classes, or None
        where `files` has none; no spacing.

    Raises:
        InputError: every fault of the case, one line each.
    """
    faults = list(files.faults)
    images = [decode_or_note(_image, path, read, faults) for path in files.images]
    masks = [decode_or_note(lambda data, path: _mask(data, path, labels), path, read, faults) for path in files.masks]
    for path, image, mask in zip(files.masks, images, masks, strict=False):
        if image is not None and mask is not None and image.shape[:3] != mask.shape:
            mistake = f"is {_size(mask)} pixels and its image {_size(image)}: they must be of one size."
            faults.append(Fault(path, mistake))
    first = next((image for image in images if image is not None), None)
    for path, image in zip(files.images, images, strict=True):
        if image is not None and (image.shape != first.shape or image.dtype != first.dtype):
            faults.append(
                Fault(
                    path,
                    f"has {_kind(image)}, and the first slice of {shown(files.name)} {_kind(first)}: all slices of a "
                    "volume must be alike.",
                    "slices differ",
                )
            )
    if first is not None and len(files.images) > 1 and len(first) > 1:
        mistake = (
            f"has {len(first)} pages, and is one slice of {shown(files.name)}: save each page as a file of its own."
        )
        faults.append(Fault(files.images[0], mistake, "pages of slices"))
    if faults:
        raise FaultsError(faults)
    return Case(files.name, files.patient, np.concatenate(images), np.concatenate(masks) if masks else None)


def as_image(pixels: np.ndarray) -> UInt8[np.ndarray, "*shape"] | Float32[np.ndarray, "*shape"]:
    """Pixels of any number as a network takes them.

    8 bits stay as they are, one bit becomes 0 and 255, 16 bits without sign 0 to 1; all others become float32, on
    their own scale.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels * np.uint8(255)
    values = pixels.astype(np.float32)
    return values / 65535 if pixels.dtype == np.uint16 else values


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


def _image(data: bytes, path: Path) -> UInt8[np.ndarray, "d h w c"] | Float32[np.ndarray, "d h w c"]:
    return as_image(table.read(data, path)[0])


def _mask(data: bytes, path: Path, labels: LabelMap | None) -> UInt8[np.ndarray, "d h w"]:
    pixels, _ = table.read(data, path, mask=True)
    if pixels.shape[3] != 1:
        raise FaultsError([Fault(path, f"the mask has {pixels.shape[3]} channels: save it as grey, with 1.")])
    try:
        return label_maps.to_classes(pixels[..., 0], labels)
    except InputError as error:
        raise FaultsError([Fault(path, str(error))]) from error


def _size(pixels: np.ndarray) -> str:
    """Of a stack with its slices first."""
    return "x".join(map(str, pixels.shape[len(pixels) == 1 : 3]))


def _kind(image: np.ndarray) -> str:
    return f"{_size(image)} pixels, {image.shape[3]} channels of {image.dtype}"

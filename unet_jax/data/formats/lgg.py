"""Kaggle LGG folders to cases: `<root>/<case>/<case>_<slice>.tif` with `<case>_<slice>_mask.tif` beside it.

The data set is that of Buda et al. 2019 (doi 10.1016/j.compbiomed.2019.05.002): axial slices of brain MRI,
8 bits, the channels pre-contrast, FLAIR and post-contrast, and hand-drawn masks of 0 and 255.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from unet_jax.data.cache import CaseFiles
from unet_jax.data.case import Case
from unet_jax.data.formats.image_file import decode_image, decode_or_note, list_folder
from unet_jax.data.formats.image_header import SUFFIXES
from unet_jax.data.names import shown
from unet_jax.errors import InputError

# The channels, and the one that shows a tumour best.
SEQUENCES = ("pre-contrast", "FLAIR", "post-contrast")
FLAIR = 1
DECODING = "lgg 1: channels in file order, mask above 127 is 1"


def find(root: Path) -> list[CaseFiles]:
    """Lists the cases under a folder; image and mask are paired by the slice's number, in numeric order.

    The patient is the first three fields of the folder's name (TCGA_CS_4941 of TCGA_CS_4941_19960909).
    Numbers may have gaps. Loose files beside the folders, hidden files and hidden folders are passed over. What is
    wrong with a folder or the names in it stands in its case's `faults`.

    Raises:
        InputError: the folder is missing or cannot be read, or no folder in it holds a TIFF.
    """
    try:
        if not root.is_dir():
            raise InputError(
                f"config.data.root={root}: {'is a file' if root.exists() else 'there is no such folder'}; it must be "
                "a folder that holds one folder a scan, such as TCGA_CS_4941_19960909 (Kaggle: "
                "mateuszbuda/lgg-mri-segmentation)."
            )
        # What is there and does not exist is a broken link: a case that is missing.
        folders = sorted(path.name for path in root.iterdir() if path.is_dir() or not path.exists())
    except OSError as error:
        raise InputError(
            f"config.data.root={root}: cannot be read ({error.strerror}): mend its permissions."
        ) from error
    listing, nothing = [], True
    for name in folders:
        if name.startswith("."):
            continue
        try:
            names = [entry for entry in list_folder(root, Path(name)) if entry.lower().endswith(SUFFIXES["TIFF"])]
            listing.append(_list_case(name, names))
            nothing = nothing and not names
        except InputError as error:
            listing.append(CaseFiles(name, name, (), (), faults=(str(error),)))
            nothing = False
    if nothing:
        raise InputError(
            f"config.data.root={root}: no TIFF was found one level down in its {len(listing)} folders; name the folder "
            "that directly holds the scans' folders, such as kaggle_3m, which holds TCGA_CS_4941_19960909."
        )
    return listing


def decode(files: CaseFiles, read: Callable[[Path], bytes]) -> Case:
    """Reads, checks and stacks the slices of one case.

    Args:
        files: what `find` said of the case.
        read: gives the bytes of a path of `files`, or raises InputError.

    Returns:
        image uint8 [slices, rows, columns, 3] in file order (pre-contrast, FLAIR, post-contrast), mask uint8
        of 0 and 1, no spacing: the files do not say.

    Raises:
        InputError: every fault of the case, one line each: those of the listing, files that cannot be read or
            are damaged, other types or numbers of channels, mask values beside 0 and 255, sizes that differ.
    """
    faults = list(files.faults)
    images, masks = [], []
    for image_path, mask_path in zip(files.images, files.masks, strict=True):
        image = decode_or_note(_decode_image, image_path, read, faults)
        mask = decode_or_note(_decode_mask, mask_path, read, faults)
        if image is None or mask is None:
            continue
        images.append(image)
        masks.append(mask)
        if mask.shape != image.shape[:2]:
            faults.append(
                f"{shown(mask_path)}: is {_size(mask)} pixels and its image {_size(image)}: they must be of one "
                "size; restore both from the original data set."
            )
        elif image.shape != images[0].shape:
            faults.append(
                f"{shown(image_path)}: is {_size(image)} pixels and the case's first slice {_size(images[0])}: "
                "all slices of a case must be of one size; restore it from the original data set."
            )
    if faults:
        raise InputError("\n".join(faults))
    return Case(files.name, files.patient, np.stack(images), np.stack(masks))


def _list_case(name: str, file_names: list[str]) -> CaseFiles:
    faults = []
    fields = name.split("_")
    if len(fields) < 3 or not all(fields[:3]):
        faults.append(
            f"{shown(name)}: the folder's name has fewer than three fields to tell the patient by: rename it "
            "like TCGA_CS_4941_19960909."
        )
    if not file_names:
        faults.append(f"{shown(name)}: the folder holds no TIFF: restore its files or delete it.")
    numbered = {"": {}, "_mask": {}}
    for file_name in file_names:
        path = Path(name, file_name)
        parsed = re.fullmatch(rf"{re.escape(name)}_([0-9]+)(_mask)?", path.stem)
        if parsed is None:
            faults.append(
                f"{shown(path)}: is named neither {shown(name)}_<slice number>.tif nor {shown(name)}_<slice number>"
                "_mask.tif: rename or remove it."
            )
            continue
        number, kind = int(parsed[1]), parsed[2] or ""
        if number in numbered[kind]:
            other = numbered[kind][number]
            faults.append(f"{shown(path)}: is slice {number}, as is {shown(other)}: remove one of them.")
        numbered[kind].setdefault(number, path)
    images, masks = numbered[""], numbered["_mask"]
    faults += _without_partner(images, masks, "image has no mask") + _without_partner(
        masks, images, "mask has no image"
    )
    paired = sorted(images.keys() & masks.keys())
    return CaseFiles(
        name=name,
        patient="_".join(fields[:3]),
        images=tuple(images[number] for number in paired),
        masks=tuple(masks[number] for number in paired),
        faults=tuple(faults),
    )


def _without_partner(paths: dict[int, Path], partners: dict[int, Path], complaint: str) -> list[str]:
    alone: Iterable[int] = sorted(paths.keys() - partners.keys())
    return [f"{shown(paths[number])}: this {complaint}: add it or remove this file." for number in alone]


def _decode_image(data: bytes, path: Path) -> UInt8[np.ndarray, "h w 3"]:
    return _checked(decode_image(data, path), path, channels=3)


def _decode_mask(data: bytes, path: Path) -> UInt8[np.ndarray, "h w"]:
    pixels = _checked(decode_image(data, path), path, channels=1)
    tumour = pixels > 127
    others = np.unique(pixels[pixels != tumour * np.uint8(255)])
    if others.size:
        found = ", ".join(map(str, others[:5])) + (", …" if others.size > 5 else "")
        raise InputError(f"{shown(path)}: the mask has the values {found} beside 0 and 255: draw it in 0 and 255 only.")
    return tumour.astype(np.uint8)


def _checked(pixels: np.ndarray, path: Path, channels: int) -> np.ndarray:
    found = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != np.uint8 or found != channels:
        raise InputError(
            f"{shown(path)}: has {found} channels of {pixels.dtype}, where {channels} of uint8 are needed: convert it, "
            "or restore it from the original data set."
        )
    return pixels


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"

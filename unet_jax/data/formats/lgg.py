"""Kaggle LGG folders to cases: `<root>/<case>/<case>_<slice>.tif` with `<case>_<slice>_mask.tif` beside it.

The data set is that of Buda et al. 2019 (doi 10.1016/j.compbiomed.2019.05.002): axial slices of brain MRI,
8 bits, the channels pre-contrast, FLAIR and post-contrast, and hand-drawn masks of 0 and 255.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError, lines_of
from unet_jax.data.formats.image_file import decode_image, decode_or_note, list_folder
from unet_jax.data.formats.image_header import SUFFIXES
from unet_jax.data.listing import folders, has_suffix
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError
from unet_jax.wording import count

# The channels, and the one that shows a tumour best.
SEQUENCES = ("pre-contrast", "FLAIR", "post-contrast")
FLAIR = 1
DECODING = "lgg 1: channels in file order, mask above 127 is 1"


def find(root: Path) -> list[CaseFiles]:
    """Lists the cases under a folder; image and mask are paired by the slice's number, in numeric order.

    The patient is the first three fields of the folder's name (TCGA_CS_4941 of TCGA_CS_4941_19960909).
    Numbers may have gaps. Loose files beside the folders, hidden files and hidden folders are passed over. What is
    wrong with a folder or the names in it is in its case's `faults`.

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
        # A broken link is listed and does not exist: it is a missing case.
        names = sorted(path.name for path in root.iterdir() if path.is_dir() or not path.exists())
    except OSError as error:
        raise InputError(
            f"config.data.root={root}: cannot be read ({error.strerror}): mend its permissions."
        ) from error
    listing, nothing = [], True
    for name in names:
        if name.startswith("."):
            continue
        try:
            paths = [Path(name, entry) for entry in list_folder(root, Path(name))]
            files = _list_case(name, paths)
            nothing = nothing and not any(has_suffix(path, SUFFIXES["TIFF"]) for path in paths)
        except InputError as error:
            files, nothing = CaseFiles(name, name, (), (), faults=tuple(lines_of(error))), False
        listing.append(files)
    if nothing:
        below = [path.as_posix() for path in holding_scans(root)]
        named = f" ({' or '.join(f'{root}/{path}' for path in below)})" if below else ""
        raise InputError(
            f"config.data.root={root}: no TIFF was found one level down in its {len(listing)} folders; name the folder "
            f"that directly holds the scans' folders, such as kaggle_3m, which holds TCGA_CS_4941_19960909{named}."
        )
    return listing


def holding_scans(root: Path, levels: int = 3) -> list[Path]:
    """The folders below `root`, so many levels deep, that hold scans; paths from `root`, the highest first.

    Raises:
        InputError: a folder cannot be read.
    """
    found, level = [], folders(root)
    for _ in range(levels):
        scans = [path for path in level if holds_scans(root / path)]
        found += scans
        level = [path / name for path in level if path not in scans for name in folders(root / path)]
    return found


def holds_scans(root: Path) -> bool:
    """Whether it holds folders of scans."""
    return any(is_scan(root / folder) for folder in folders(root))


def is_scan(folder: Path) -> bool:
    """Whether it holds a TIFF that begins with the folder's own name."""
    return any(
        has_suffix(file, SUFFIXES["TIFF"]) and file.name.startswith(f"{folder.name}_") for file in folder.iterdir()
    )


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
                Fault(
                    mask_path,
                    f"is {_size(mask)} pixels and its image {_size(image)}: they must be of one size; restore both "
                    "from the original data set.",
                )
            )
        elif image.shape != images[0].shape:
            faults.append(
                Fault(
                    image_path,
                    f"is {_size(image)} pixels and the case's first slice {_size(images[0])}: all slices of a case "
                    "must be of one size; restore it from the original data set.",
                )
            )
    if faults:
        raise FaultsError(faults)
    return Case(files.name, files.patient, np.stack(images), np.stack(masks))


def _list_case(name: str, paths: Sequence[Path]) -> CaseFiles:
    faults = []
    fields = name.split("_")
    if len(fields) < 3 or not all(fields[:3]):
        faults.append(
            Fault(
                name,
                "the folder's name has fewer than three fields to tell the patient by: rename it like "
                "TCGA_CS_4941_19960909.",
            )
        )
    tiffs = [path for path in paths if has_suffix(path, SUFFIXES["TIFF"])]
    numbered, misnamed = _numbered(name, tiffs)
    images, masks = numbered["image"], numbered["mask"]
    if not tiffs:
        faults.append(Fault(name, "the folder holds no TIFF: restore its files or delete it."))
    faults += misnamed
    for number in sorted(images.keys() - masks.keys()):
        wanted = f"{name}_{number}_mask".casefold()
        near = next((path for path in paths if path.stem.casefold() == wanted), None)
        remedy = "add it or remove this file" if near is None else f"{shown(near)} is not a TIFF: convert it"
        faults.append(Fault(images[number], f"this image has no mask: {remedy}.", f"no mask: {near is None}"))
    faults += [
        Fault(masks[number], "this mask has no image: add it or remove this file.")
        for number in sorted(masks.keys() - images.keys())
    ]
    paired = sorted(images.keys() & masks.keys())
    return CaseFiles(
        name=name,
        patient="_".join(fields[:3]),
        images=tuple(images[number] for number in paired),
        masks=tuple(masks[number] for number in paired),
        faults=tuple(faults),
    )


def _numbered(name: str, paths: Sequence[Path]) -> tuple[Mapping[str, dict[int, Path]], list[Fault]]:
    """Images and masks of a case by their slice's number, and files whose names tell none or one that is taken."""
    numbered: dict[str, dict[int, Path]] = {"image": {}, "mask": {}}
    faults = []
    for path in paths:
        parsed = re.fullmatch(rf"{re.escape(name)}_([0-9]+)((?i:_mask))?", path.stem)
        if parsed is None:
            faults.append(
                Fault(
                    path,
                    f"is named neither {shown(name)}_<slice number>.tif nor {shown(name)}_<slice number>_mask.tif: "
                    "rename or remove it.",
                    "slice number",
                )
            )
            continue
        number, of_kind = int(parsed[1]), numbered["mask" if parsed[2] else "image"]
        if number in of_kind:
            faults.append(Fault(path, f"is slice {number}, as is {shown(of_kind[number])}: remove one of them."))
        of_kind.setdefault(number, path)
    return numbered, faults


def _decode_image(data: bytes, path: Path) -> UInt8[np.ndarray, "h w 3"]:
    return _checked(decode_image(data, path), path, channels=3)


def _decode_mask(data: bytes, path: Path) -> UInt8[np.ndarray, "h w"]:
    pixels = _checked(decode_image(data, path), path, channels=1)
    tumour = pixels > 127
    others = np.unique(pixels[pixels != tumour * np.uint8(255)])
    if others.size:
        found = ", ".join(map(str, others[:5])) + (", …" if others.size > 5 else "")
        mistake = f"the mask has the values {found} beside 0 and 255: draw it in 0 and 255 only."
        raise FaultsError([Fault(path, mistake)])
    return tumour.astype(np.uint8)


def _checked(pixels: np.ndarray, path: Path, channels: int) -> np.ndarray:
    found = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != np.uint8 or found != channels:
        mistake = (
            f"has {count(found, 'channel')} of {pixels.dtype}, where {channels} of uint8 are needed: convert it, or "
            "restore it from the original data set."
        )
        # Another number of channels is another mistake.
        raise FaultsError([Fault(path, mistake, kind=mistake)])
    return pixels


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"

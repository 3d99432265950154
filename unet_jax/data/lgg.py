"""Kaggle LGG folders to cases: `<root>/<case>/<case>_<slice>.tif` with `<case>_<slice>_mask.tif` beside it.

The data set is that of Buda et al. 2019 (doi 10.1016/j.compbiomed.2019.05.002): axial slices of brain MRI,
8 bits, the channels pre-contrast, FLAIR and post-contrast, and hand-drawn masks of 0 and 255.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from unet_jax.data.cache import CaseFiles
from unet_jax.data.case import Case
from unet_jax.errors import InputError

DECODING = "lgg 1: channels in file order, mask above 127 is 1"

TIFF_SUFFIXES = (".tif", ".tiff")
DEFLATE = (8, 32946)
STORAGE_TAGS = {259: "compression", 273: "starts", 279: "lengths", 324: "starts", 325: "lengths"}

# A damaged file is reported by name as an InputError; OpenCV's own lines on stderr name no file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def find(root: Path) -> list[CaseFiles]:
    """Lists the cases under a folder; image and mask are paired by the slice's number, in numeric order.

    The patient is the first three fields of the folder's name (TCGA_CS_4941 of TCGA_CS_4941_19960909).
    Numbers may have gaps. Loose files beside the folders and hidden folders are passed over. What is wrong
    with the names in a folder stands in its case's `faults`.

    Raises:
        InputError: the folder is missing, or no folder in it holds a TIFF.
    """
    if not root.is_dir():
        raise InputError(
            f"config.data.root={root}: there is no such folder; it must hold one folder a scan, "
            "such as TCGA_CS_4941_19960909 (Kaggle: mateuszbuda/lgg-mri-segmentation)."
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    tiffs = {
        folder.name: sorted(path.name for path in folder.iterdir() if path.suffix.lower() in TIFF_SUFFIXES)
        for folder in folders
    }
    if not any(tiffs.values()):
        raise InputError(
            f"config.data.root={root}: no TIFF was found one level down in its {len(folders)} folders; name "
            "the folder that directly holds the scans' folders, such as kaggle_3m, which holds "
            "TCGA_CS_4941_19960909."
        )
    return [_list_case(name, files) for name, files in tiffs.items()]


def decode(files: CaseFiles, read: Callable[[Path], bytes]) -> Case:
    """Reads, checks and stacks the slices of one case.

    Args:
        files: what `find` said of the case.
        read: gives the bytes of a path of `files`.

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
        image = _decode_or_note(_decode_image, image_path, read, faults)
        mask = _decode_or_note(_decode_mask, mask_path, read, faults)
        if image is None or mask is None:
            continue
        images.append(image)
        masks.append(mask)
        if mask.shape != image.shape[:2]:
            faults.append(
                f"{mask_path}: is {_size(mask)} pixels and its image {_size(image)}: they must be of one "
                "size; restore both from the original data set."
            )
        elif image.shape != images[0].shape:
            faults.append(
                f"{image_path}: is {_size(image)} pixels and the case's first slice {_size(images[0])}: "
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
            f"{name}: the folder's name has fewer than three fields to tell the patient by: rename it "
            "like TCGA_CS_4941_19960909."
        )
    if not file_names:
        faults.append(f"{name}: the folder holds no TIFF: restore its files or delete it.")
    numbered = {"": {}, "_mask": {}}
    for file_name in file_names:
        path = Path(name, file_name)
        parsed = re.fullmatch(rf"{re.escape(name)}_([0-9]+)(_mask)?", path.stem)
        if parsed is None:
            faults.append(
                f"{path}: is named neither {name}_<slice number>.tif nor {name}_<slice number>_mask.tif: "
                "rename or remove it."
            )
            continue
        number, kind = int(parsed[1]), parsed[2] or ""
        if number in numbered[kind]:
            faults.append(f"{path}: is slice {number}, as is {numbered[kind][number]}: remove one of them.")
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
    return [f"{paths[number]}: this {complaint}: add it or remove this file." for number in alone]


def _decode_or_note(
    decode_bytes: Callable[[bytes], np.ndarray], path: Path, read: Callable[[Path], bytes], faults: list[str]
) -> np.ndarray | None:
    try:
        return decode_bytes(read(path))
    except OSError as error:
        faults.append(f"{path}: cannot be read ({error.strerror}): mend its permissions or restore it.")
    except InputError as error:
        faults.append(f"{path}: {error}")
    return None


def _decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    pixels = _decode_uint8(data, channels=3)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decode_mask(data: bytes) -> UInt8[np.ndarray, "h w"]:
    pixels = _decode_uint8(data, channels=1)
    tumour = pixels > 127
    others = np.unique(pixels[pixels != tumour * np.uint8(255)])
    if others.size:
        found = ", ".join(map(str, others[:5])) + (", …" if others.size > 5 else "")
        raise InputError(f"the mask has the values {found} beside 0 and 255: draw it in 0 and 255 only.")
    return tumour.astype(np.uint8)


def _decode_uint8(data: bytes, channels: int) -> np.ndarray:
    """Pixels as OpenCV holds them (channels reversed), refused rather than converted when of another type."""
    try:
        # IMREAD_UNCHANGED: every other flag turns 16 bits into 8 and one or four channels into three.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or _has_damaged_strip(data):
        what = "is damaged or no picture" if data else "is empty"
        raise InputError(f"the file {what} ({len(data)} bytes): restore it from the original data set.")
    found = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != np.uint8 or found != channels:
        raise InputError(
            f"has {found} channels of {pixels.dtype}, where {channels} of uint8 are needed: convert it, or "
            "restore it from the original data set."
        )
    return pixels


def _has_damaged_strip(data: bytes) -> bool:
    """Whether the pixel data of a TIFF ends too soon or fails its own checksum.

    OpenCV logs a strip that cannot be decompressed, leaves it black and returns the picture all the same.
    Only Deflate carries a checksum (Adler-32, at the end of each zlib stream). Layout: TIFF 6.0, section 2.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return False
    try:
        tags = _storage_tags(data, order)
        for start, length in zip(tags.get("starts", ()), tags.get("lengths", ()), strict=False):
            if start + length > len(data):
                return True
            if tags.get("compression", (1,))[0] in DEFLATE:
                zlib.decompress(data[start : start + length])
    except (struct.error, zlib.error):
        return True
    return False


def _storage_tags(data: bytes, order: str) -> dict[str, tuple[int, ...]]:
    """How the first picture of a TIFF is stored; `order` is struct's sign for the file's byte order."""
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    tags = {}
    for position in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, position)
        if tag in STORAGE_TAGS:
            code, size = ("H", 2) if kind == 3 else ("I", 4)
            position += 8
            if count * size > 4:
                (position,) = struct.unpack_from(f"{order}I", data, position)
            tags[STORAGE_TAGS[tag]] = struct.unpack_from(f"{order}{count}{code}", data, position)
    return tags


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"

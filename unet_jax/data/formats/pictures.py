"""Pictures to cases: slices in order, channels stacked, several masks of one picture united."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError, lines_of
from unet_jax.data.formats import mask_file
from unet_jax.data.formats.image_file import decode_image
from unet_jax.data.labels import LabelMap
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError


def decode(
    files: CaseFiles, read: Callable[[Path], bytes], labels: LabelMap | None, threshold: int | None = None
) -> Case:
    """Reads, checks and puts together the pictures of one case.

    Args:
        files: what a listing said of the case.
        read: gives the bytes of a path of `files`, or raises InputError.
        labels: which values of the masks are which class; None where they hold 0 and 1 or 0 and 255.
        threshold: see `mask_file.decode`.

    Returns:
        image uint8, or float32 where the files have 16 bits (0 to 65535 as 0 to 1) or floats; mask of classes, or None
        where `files` has none; no spacing.

    Raises:
        InputError: every fault of the case, one line each.
    """
    faults = list(files.faults)
    images = list(noted(files.images, lambda path: _image(read(path), path), faults))
    masks = list(noted(files.masks, lambda path: mask_file.decode(read(path), path, labels, threshold), faults))
    first = next((image for image in images if image is not None), None)
    for path, image in zip(files.images, images, strict=True):
        if image is not None and (image.shape != first.shape or image.dtype != first.dtype):
            what = "slice" if files.channels == 1 else "file"
            differs = f"has {_kind(image)}, and the first {what} of {shown(files.name)} {_kind(first)}"
            faults.append(Fault(path, f"{differs}: all {what}s of a volume must be alike.", f"{what}s differ"))
    united = []
    for paths, of_slice, image in _by_slice(files, masks, images):
        for path, mask in zip(paths, of_slice, strict=True):
            if mask is not None and image is not None and mask.shape != image.shape[:2]:
                mistake = f"is {_size(mask)} pixels and its image {_size(image)}: they must be of one size."
                faults.append(Fault(path, mistake, "sizes"))
        united.append((paths, of_slice))
    if faults:
        raise FaultsError(faults)
    slices = [np.concatenate(images[at : at + files.channels], axis=-1) for at in range(0, len(images), files.channels)]
    mask = np.stack([union(of_slice, paths) for paths, of_slice in united]) if files.masks else None
    return Case(files.name, files.patient, np.stack(slices), mask)


def union(masks: Sequence[UInt8[np.ndarray, "*shape"]], paths: Sequence[Path]) -> UInt8[np.ndarray, "*shape"]:
    """Masks of one image as one.

    Raises:
        InputError: two of them put a pixel into two classes.
    """
    result = masks[0].copy()
    for mask, path in zip(masks[1:], paths[1:], strict=True):
        both = (result > 0) & (mask > 0) & (result != mask)
        if both.any():
            mistake = f"has {np.count_nonzero(both)} pixels of another class than {shown(paths[0])}: mend one of them."
            raise FaultsError([Fault(path, mistake, "two classes")])
        np.maximum(result, mask, out=result)
    return result


def _by_slice(files: CaseFiles, masks: Sequence, images: Sequence) -> Iterator[tuple]:
    """Of each slice, the paths of its masks, the masks and its first image."""
    start = 0
    for number, count in enumerate(files.parts or [1] * len(files.masks)):
        stop = start + count
        yield files.masks[start:stop], masks[start:stop], images[number * files.channels]
        start = stop


def noted(paths: Sequence[Path], decode: Callable[[Path], np.ndarray], faults: list[str]) -> Iterator:
    """What each file decodes to; None, and its lines in `faults`, where it does not."""
    for path in paths:
        try:
            yield decode(path)
        except InputError as error:
            faults += lines_of(error)
            yield None


def _image(data: bytes, path: Path) -> UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"]:
    pixels = decode_image(data, path)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype == np.uint16:
        return pixels.astype(np.float32) / 65535
    if pixels.dtype not in (np.uint8, np.float32):
        raise FaultsError([Fault(path, f"has pixels of {pixels.dtype}: save it with 8 or 16 bits, or as float32.")])
    return pixels


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"


def _kind(image: np.ndarray) -> str:
    return f"{_size(image)} pixels, {image.shape[2]} channels of {image.dtype}"

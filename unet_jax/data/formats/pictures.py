"""Pictures to cases: slices in order, channels stacked, several masks of one picture united."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError, lines_of
from unet_jax.data.formats import mask_file, table
from unet_jax.data.formats.mask_file import union
from unet_jax.data.labels import LabelMap, numbered
from unet_jax.data.names import shown
from unet_jax.data.reader import CaseFiles
from unet_jax.errors import InputError
from unet_jax.wording import count


def decode(
    files: CaseFiles,
    read: Callable[[Path], bytes],
    labels: LabelMap | None,
    threshold: int | None = None,
    number_of: Callable[[Path], int] | None = None,
) -> Case:
    """Reads, checks and puts together the pictures of one case.

    Args:
        files: what a listing said of the case.
        read: gives the bytes of a path of `files`, or raises InputError.
        labels: which values of the masks are which class; None where they hold 0 and 1 or 0 and 255.
        threshold: see `mask_file.decode`.
        number_of: see `patterned.decode`.

    Returns:
        image uint8, or float32 where the files have 16 bits (0 to 65535 as 0 to 1) or floats; mask of classes, or None
        where `files` has none; no spacing.

    Raises:
        InputError: every fault of the case, one line each.
    """
    faults = list(files.faults)
    images = list(_noted(files.images, lambda path: _image(read(path), path), faults))

    def decode_mask(path: Path) -> UInt8[np.ndarray, "d h w"]:
        mask = mask_file.decode(read(path), path, labels, threshold)
        return numbered(mask, number_of(path)) if number_of else mask

    masks = list(_noted(files.masks, decode_mask, faults))
    faults += _differing(files, images)
    united = []
    for paths, of_slice, image in _by_slice(files, masks, images):
        for path, mask in zip(paths, of_slice, strict=True):
            if mask is not None and image is not None and mask.shape != image.shape[:3]:
                mistake = f"is {_size(mask)} pixels and its image {_size(image)}: they must be of one size."
                faults.append(Fault(path, mistake))
        united.append((of_slice, paths))
    if faults:
        raise FaultsError(faults)
    slices = [np.concatenate(images[at : at + files.channels], axis=-1) for at in range(0, len(images), files.channels)]
    mask = np.concatenate([union(*one) for one in united]) if united else None
    return Case(files.name, files.patient, np.concatenate(slices), mask)


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


def _differing(files: CaseFiles, images: Sequence[np.ndarray | None]) -> Iterator[Fault]:
    """A fault for each picture of a case that is not like the first."""
    first = next((image for image in images if image is not None), None)
    what = "slice" if files.channels == 1 else "file"
    for path, image in zip(files.images, images, strict=True):
        if image is not None and (image.shape != first.shape or image.dtype != first.dtype):
            differs = f"has {_kind(image)}, and the first {what} of {shown(files.name)} {_kind(first)}"
            yield Fault(path, f"{differs}: all {what}s of a volume must be alike.", f"{what}s differ")
    if first is not None and len(files.first_channels) > 1 and len(first) > 1:
        mistake = (
            f"has {len(first)} pages, and is one slice of {shown(files.name)}: save each page as a file of its own."
        )
        yield Fault(files.images[0], mistake, "pages of slices")


def _by_slice(files: CaseFiles, masks: Sequence, images: Sequence) -> Iterator[tuple]:
    """Of each slice, the paths of its masks, the masks and its first image."""
    start = 0
    for number, parts in enumerate(files.parts or [1] * len(files.masks)):
        stop = start + parts
        yield files.masks[start:stop], masks[start:stop], images[number * files.channels]
        start = stop


def _noted(paths: Sequence[Path], decode: Callable[[Path], np.ndarray], faults: list[str]) -> Iterator:
    """What each file decodes to; None, and its lines in `faults`, where it does not."""
    for path in paths:
        try:
            yield decode(path)
        except InputError as error:
            faults += lines_of(error)
            yield None


def _image(data: bytes, path: Path) -> UInt8[np.ndarray, "d h w c"] | Float32[np.ndarray, "d h w c"]:
    return as_image(table.read(data, path)[0])


def _size(pixels: np.ndarray) -> str:
    """Of a stack with its slices first."""
    return "x".join(map(str, pixels.shape[len(pixels) == 1 : 3]))


def _kind(image: np.ndarray) -> str:
    return f"{_size(image)} pixels, {count(image.shape[3], 'channel')} of {image.dtype}"

"""Arrays that numpy saved, .npy and .npz: read without pickles, and not before their claims were checked."""

import io
import math
import zipfile
from pathlib import PurePath

import numpy as np
from jaxtyping import Shaped

from unet_jax.data.formats.image_header import MAX_STACK
from unet_jax.data.names import shown
from unet_jax.errors import InputError
from unet_jax.wording import count

# An axis of at most so many, at the end, holds channels.
MAX_CHANNELS = 4
# The arrays of an .npz that are taken where there are several, the first that is there.
IMAGE_KEYS = ("image", "img", "data", "arr_0")
MASK_KEYS = ("mask", "label", "labels", "seg", "segmentation", "arr_0")
MAX_HEADER = 2**16
# Deflate reaches 1032 bytes a byte of file.
MAX_EXPANSION = 1032


def decode(data: bytes, name: PurePath | str, *, mask: bool = False) -> Shaped[np.ndarray, "d h w c"]:
    """The array of an .npy: [h, w], [d, h, w] or, with up to MAX_CHANNELS channels, [h, w, c] or [d, h, w, c].

    Args:
        data: the file's bytes; of an .npz, the array in it is taken, of several that of IMAGE_KEYS.
        name: the file's name, for messages.
        mask: whether an .npz holds a mask: see MASK_KEYS.

    Raises:
        InputError: the file is damaged, claims more than it holds, or is not an array of numbers with such axes.
    """
    try:
        if data[:4] == b"PK\3\4":
            data = _member(data, MASK_KEYS if mask else IMAGE_KEYS)
        array = _array(data)
        if array.ndim not in (2, 3, 4) or not array.size:
            raise InputError(
                f"is an array of {_by(array.shape)}; it must be [h, w], [h, w, c], [d, h, w] or [d, h, w, c]."
            )
        has_channels = array.ndim == 4 or (array.ndim == 3 and array.shape[-1] <= MAX_CHANNELS)
        array = array if has_channels else array[..., None]
        return array if array.ndim == 4 else array[None]
    except InputError as error:
        raise InputError(f"{shown(name)}: {error}") from error
    except Exception as error:  # numpy and zipfile promise no kind of exception for damaged bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{shown(name)}: the file is damaged ({len(data):,} bytes, {reason}): restore it.") from error


def encode(volume: Shaped[np.ndarray, "d h w"], suffix: str) -> bytes:
    """An .npy, or an .npz with the key "mask": [h, w] of one slice, else [d, h, w]."""
    array, file = volume[0] if len(volume) == 1 else volume, io.BytesIO()
    if suffix == ".npz":
        np.savez_compressed(file, mask=array)
    else:
        np.save(file, array)
    return file.getvalue()


def _member(data: bytes, keys: tuple[str, ...]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        found = [*members] if len(members) == 1 else [key for key in keys if key in members]
        if not found:
            raise InputError(
                f"holds {count(len(members), 'array')} ({', '.join(map(shown, list(members)[:5]))}), and none is "
                f"called {', '.join(keys)}: save the one that is meant by itself, or under one of these names."
            )
        info = members[found[0]]
        if info.file_size > min(MAX_EXPANSION * len(data), 8 * MAX_STACK + MAX_HEADER):
            raise InputError(f"claims {info.file_size:,} bytes in a file of {len(data):,}: cut it up, or restore it.")
        return archive.read(info)


def _array(data: bytes) -> np.ndarray:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, in_columns, dtype = read(file, max_header_size=MAX_HEADER)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"is an array of {dtype}: save it with whole or real numbers of up to 64 bits.")
    numbers, start = math.prod(shape), file.tell()
    if numbers > MAX_STACK:
        raise InputError(f"claims {_by(shape)} numbers, and up to {MAX_STACK:,} are read: cut it up, or restore it.")
    if min(shape, default=1) < 0 or start + numbers * dtype.itemsize != len(data):
        raise ValueError(f"it claims {_by(shape)} numbers of {dtype}, and holds more or fewer")
    array = np.frombuffer(data, dtype, numbers, start).reshape(shape, order="F" if in_columns else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no axes"

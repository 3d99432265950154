"""Bytes of a NIfTI file to an array, with its claims checked first, and arrays back to bytes."""

import gzip
import io
import logging
import struct
import zlib
from pathlib import PurePath

import numpy as np
from jaxtyping import Shaped

from unet_jax.data.formats.voxel_grid import VoxelGrid, grid_of
from unet_jax.data.names import shown
from unet_jax.errors import InputError

try:
    import nibabel
    from nibabel.spatialimages import HeaderDataError
except ImportError as error:
    raise InputError("NIfTI files need the package nibabel: pip install .[nifti]") from error

MAX_VOXELS = 2**29
# Deflate reaches 1032 bytes a byte of file.
MAX_EXPANSION = 1032
HEADER_BYTES = 540

# nibabel logs what it repairs in a header, without naming the file.
nibabel.imageglobals.logger.setLevel(logging.CRITICAL)


def decode(data: bytes, name: PurePath | str) -> tuple[np.ndarray, VoxelGrid]:
    """The array of a NIfTI file, scaled as its header says, in the file's own order of axes; and its grid.

    Args:
        data: the file's bytes, of .nii or .nii.gz.
        name: the file's, for messages.

    Returns:
        [i, j, k], or [i, j, k, c] of several channels: float32 of floats or where the header scales, else integers of
        the file's type; and the grid.

    Raises:
        InputError: the bytes are not such a file or are damaged, or the header claims more voxels than MAX_VOXELS or
            than the file can hold: then nothing is set aside for them.
    """
    try:
        stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if data[:2] == b"\x1f\x8b" else io.BytesIO(data)
        head = stream.read(HEADER_BYTES)
        header = _header(head)
        grid, channels = grid_of(header)
        needed = _claimed_bytes(header, len(data))
        if needed > len(head):
            head += stream.read(needed - len(head))
        # At the end, gzip compares its checksum.
        if len(head) < needed or stream.read(1):
            raise InputError("the file is damaged (it holds fewer or more voxels than its header says): restore it.")
        with np.errstate(over="ignore", invalid="ignore"):  # infinite voxels are found in the case as a whole
            return _scaled(header, head, (*grid.shape, channels) if channels > 1 else grid.shape), grid
    except InputError as error:
        raise InputError(f"{shown(name)}: {error}") from error
    except (OSError, EOFError, zlib.error, HeaderDataError, struct.error) as error:
        raise InputError(f"{shown(name)}: the file is damaged ({_one_line(error)}): restore it.") from error


def encode(volume: Shaped[np.ndarray, "d h w"], grid: VoxelGrid, *, compressed: bool = True) -> bytes:
    """A volume in a case's geometry as a NIfTI file in the grid that the case came from.

    Affine, voxel sizes, units and codes are the original file's; type and scale are the volume's own. The same volume
    gives the same bytes.
    """
    header = grid.header.copy()
    header.set_data_dtype(volume.dtype)
    header.set_slope_inter(1, 0)
    header["cal_max"] = header["cal_min"] = 0
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    # Without an affine, the header's own is kept, to the last bit.
    image = kind(grid.to_file(volume).astype(volume.dtype), None, header)
    data = image.to_bytes()
    return gzip.compress(data, compresslevel=6, mtime=0) if compressed else data


def _header(head: bytes) -> nibabel.Nifti1Header:
    for kind, length, magic in ((nibabel.Nifti1Header, 348, head[344:347]), (nibabel.Nifti2Header, 540, head[4:7])):
        if magic in (b"n+1", b"n+2") and len(head) >= length:
            return kind(head[:length])
    raise InputError(f"is not a NIfTI file (its first bytes are {head[:8]!r}): restore it, or convert it to .nii.gz.")


def _claimed_bytes(header: nibabel.Nifti1Header, file_bytes: int) -> int:
    """Bytes from the file's start to its last voxel, by the header."""
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"has voxels of {dtype}: save it with whole or real numbers of up to 64 bits.")
    if not all(n > 0 for n in shape):
        raise InputError(f"the image has no voxel ({' x '.join(map(str, shape))}): restore or remove it.")
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    claim = f"claims {' x '.join(map(str, shape))} voxels"
    if voxels > MAX_VOXELS:
        raise InputError(f"{claim}; up to {MAX_VOXELS} are read: cut it up, or restore it.")
    offset = float(header["vox_offset"])
    needed = voxels * dtype.itemsize + (int(offset) if 0 <= offset < 2**31 else 2**31)
    if needed > MAX_EXPANSION * file_bytes:
        raise InputError(f"{claim} in a file of {file_bytes} bytes, which cannot hold them: restore it.")
    return needed


def _scaled(header: nibabel.Nifti1Header, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    raw = np.frombuffer(data, header.get_data_dtype(), count, header.get_data_offset()).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    if slope is None or (slope, intercept) == (1, 0):
        return raw if raw.dtype.kind in "iu" else raw.astype(np.float32)
    return raw.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""Bytes of a NIfTI or Analyze file to an array, with its claims checked first, and arrays back to bytes.

A file of two, .hdr and .img, comes as one: see `two_files`. Analyze 7.5 says nothing of directions: its voxels lie as
they do for nibabel, from the patient's left to the right, to the front, to the head.
"""

import contextlib
import gzip
import io
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np
from jaxtyping import Shaped

from unet_jax.data.formats.voxel_grid import VoxelGrid, axes_of, grid_of
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
# Of a file, compressed or not, that surely hold its header.
GRID_BYTES = 2**16
STEP_BYTES = 2**20
RGB, RGBA = (np.dtype([(colour, "u1") for colour in colours]) for colours in ("RGB", "RGBA"))
# Where SPM keeps the slope of an Analyze file.
SPM_SCALE = "funused1"
KINDS = (nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair, nibabel.AnalyzeImage)

# nibabel logs what it repairs in a header, without naming the file.
nibabel.imageglobals.logger.setLevel(logging.CRITICAL)


def decode(data: bytes, name: PurePath | str) -> tuple[np.ndarray, VoxelGrid]:
    """The array of a NIfTI file, scaled as its header says, in the file's own order of axes; and its grid.

    Args:
        data: the file's bytes, of .nii or .nii.gz, or of a pair.
        name: the file's, for messages.

    Returns:
        [i, j, k], or [i, j, k, c] of several channels, or of colours: float32 of floats or where the header scales,
        else integers of the file's type; and the grid.

    Raises:
        InputError: the bytes are not such a file or are damaged, or the header claims more voxels than MAX_VOXELS or
            than the file can hold: then nothing is set aside for them.
    """
    with _explained(name):
        header = _header_of(data)
        grid = grid_of(header)
        needed = _claimed_bytes(header, len(data))
        if not _is_compressed(data):
            content, is_whole = data, len(data) == max(needed, len(data[:HEADER_BYTES]))
        else:
            # Into one buffer: a volume is not held twice.
            content = memoryview(bytearray(max(needed, HEADER_BYTES)))
            with _decompressed(data) as stream:
                # At the end, gzip compares its checksum.
                is_whole = _fill(content, stream) >= needed and not stream.read(1)
        if not is_whole:
            raise InputError("the file is damaged (it holds fewer or more voxels than its header says): restore it.")
        with np.errstate(over="ignore", invalid="ignore"):  # infinite voxels are found in the case as a whole
            return _scaled(header, content, (*grid.shape, *axes_of(header)[3:])), grid


def read_grid(data: bytes, name: PurePath | str) -> VoxelGrid:
    """The grid of a file, of which the first GRID_BYTES are enough; what it raises is what `decode` raises."""
    with _explained(name):
        return grid_of(_header_of(data))


@contextlib.contextmanager
def _explained(name: PurePath | str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{shown(name)}: {error}") from error
    except (OSError, EOFError, ValueError, zlib.error, HeaderDataError, struct.error) as error:
        raise InputError(f"{shown(name)}: the file is damaged ({_one_line(error)}): restore it.") from error


def _header_of(data: bytes) -> nibabel.analyze.AnalyzeHeader:
    if not _is_compressed(data):
        return _header(data[:HEADER_BYTES])
    with _decompressed(data) as stream:
        return _header(stream.read(HEADER_BYTES))


def _is_compressed(data: bytes) -> bool:
    return data[:2] == b"\x1f\x8b"


@contextlib.contextmanager
def _decompressed(data: bytes) -> Iterator[gzip.GzipFile]:
    # Closed, as a GzipFile refers to itself: it would hold the file until the next collection of garbage.
    with io.BytesIO(data) as compressed, gzip.GzipFile(fileobj=compressed) as stream:
        yield stream


def _fill(buffer: memoryview, stream: gzip.GzipFile) -> int:
    """Reads until the buffer is full or the stream ends; how many bytes there were."""
    done = 0
    # In steps: what is asked for at once, gzip first makes beside the buffer.
    while done < len(buffer) and (count := stream.readinto(buffer[done : done + STEP_BYTES])):
        done += count
    return done


def encode(volume: Shaped[np.ndarray, "d h w"], grid: VoxelGrid, suffix: str = ".nii.gz") -> dict[str, bytes]:
    """A volume in a case's geometry as a file in the grid that the case came from: its bytes by their suffix.

    Affine, voxel sizes, units and codes are the original file's; type and scale are the volume's own. The same volume
    gives the same bytes. A pair stays one: two files, .hdr and .img.
    """
    header = grid.header.copy()
    # Analyze has no unsigned numbers of more than 8 bits.
    dtype = np.int32 if type(header) is nibabel.AnalyzeHeader and volume.dtype == np.uint16 else volume.dtype
    array = grid.to_file(volume).astype(dtype)
    flat = len(header.get_data_shape()) == 2
    header.set_data_dtype(dtype)
    header["cal_max"] = header["cal_min"] = 0
    if SPM_SCALE in header:
        header[SPM_SCALE] = 0
    if isinstance(header, nibabel.Nifti1Header):
        header.set_slope_inter(1, 0)
    kind = next(kind for kind in KINDS if type(header) is kind.header_class)
    # Without an affine, the header's own is kept, to the last bit.
    image = kind(array[..., 0] if flat else array, None, header)
    if kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        data = image.to_bytes()
        return {suffix: gzip.compress(data, compresslevel=6, mtime=0) if suffix.endswith(".gz") else data}
    files = {name: nibabel.FileHolder(fileobj=io.BytesIO()) for name in ("header", "image")}
    image.to_file_map(files)
    return {".hdr": files["header"].fileobj.getvalue(), ".img": files["image"].fileobj.getvalue()}


def endings(suffix: str) -> tuple[str, ...]:
    """The suffixes of the files that `encode` gives: a pair has two."""
    return (".hdr", ".img") if suffix == ".hdr" else (suffix,)


def _header(head: bytes) -> nibabel.analyze.AnalyzeHeader:
    if head[344:347] == b"ni1":
        return _turned(_of_pair(nibabel.nifti1.Nifti1PairHeader, head))
    for kind, length, magic in ((nibabel.Nifti1Header, 348, head[344:347]), (nibabel.Nifti2Header, 540, head[4:7])):
        if magic in (b"n+1", b"n+2") and len(head) >= length:
            return _turned(kind(head[:length]))
    # Analyze has no magic but its header's length, in either order of bytes.
    if len(head) >= 348 and head[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c"):
        return _of_pair(nibabel.AnalyzeHeader, head)
    raise InputError(f"is not a NIfTI file (its first bytes are {head[:8]!r}): restore it, or convert it to .nii.gz.")


def _turned(header: nibabel.Nifti1Header) -> nibabel.Nifti1Header:
    """The header with a quaternion that was rounded to more than length 1 cut to it, as nifti1_io.c and SimpleITK do.

    nibabel refuses such a header.
    """
    names = ("quatern_b", "quatern_c", "quatern_d")
    length = float(np.linalg.norm([float(header[name]) for name in names]))
    if 1 < length < np.inf:
        for name in names:
            header[name] = float(header[name]) / length
    return header


def _of_pair(kind: type[nibabel.analyze.AnalyzeHeader], head: bytes) -> nibabel.analyze.AnalyzeHeader:
    """The header of a pair whose voxels follow it: what it says of their place counts from the end of the header."""
    header = kind(head[:348])
    if "orient" in header and (orientation := bytes(header["orient"])) not in (b"", b"\0", b"0"):
        raise InputError(f"is Analyze with slices of orientation {orientation!r}: convert it to .nii.gz.")
    return header


def _first_voxel(header: nibabel.analyze.AnalyzeHeader) -> int:
    """Where the voxels begin in the bytes."""
    offset = float(header["vox_offset"])
    offset = int(offset) if 0 <= offset < 2**31 else 2**31
    return offset if isinstance(header, nibabel.Nifti1Header) and header.is_single else 352 + offset


def _claimed_bytes(header: nibabel.analyze.AnalyzeHeader, file_bytes: int) -> int:
    """Bytes from the file's start to its last voxel, by the header."""
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    colours = dtype in (RGB, RGBA) and len(axes_of(header)) < 4
    if not colours and (dtype.kind not in "iuf" or dtype.itemsize > 8):
        raise InputError(f"has voxels of {dtype}: save it with whole or real numbers of up to 64 bits.")
    if not all(n > 0 for n in shape):
        raise InputError(f"the image has no voxel ({' x '.join(map(str, shape))}): restore or remove it.")
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    claim = f"claims {' x '.join(map(str, shape))} voxels"
    if voxels > MAX_VOXELS:
        raise InputError(f"{claim}; up to {MAX_VOXELS:,} are read: cut it up, or restore it.")
    needed = voxels * dtype.itemsize + _first_voxel(header)
    if needed > MAX_EXPANSION * file_bytes:
        raise InputError(f"{claim} in a file of {file_bytes:,} bytes, which cannot hold them: restore it.")
    return needed


def _scaled(header: nibabel.analyze.AnalyzeHeader, data: bytes | memoryview, shape: tuple[int, ...]) -> np.ndarray:
    dtype, count = header.get_data_dtype(), int(np.prod(shape))
    raw = np.frombuffer(data, dtype, count, _first_voxel(header)).reshape(shape, order="F")
    if dtype.names:  # colours are channels
        return np.stack([raw[name] for name in dtype.names], axis=-1)
    slope, intercept = header.get_slope_inter()
    if SPM_SCALE in header and np.isfinite(header[SPM_SCALE]) and header[SPM_SCALE] != 0:
        slope, intercept = float(header[SPM_SCALE]), 0
    if slope is None or (slope, intercept) == (1, 0):
        return raw if raw.dtype.kind in "iu" else raw.astype(np.float32, copy=False)
    scaled = raw.astype(np.float32)
    scaled *= np.float32(slope)
    scaled += np.float32(intercept)
    return scaled


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""NRRD, MetaImage and GIPL to arrays by SimpleITK, with their claims checked first, and masks back to bytes.

A mask is the original file's header with another type and the mask's voxels: spacing, origin and directions are the
same to the bit. Sources: "Definition of NRRD File Format" (Teem), "MetaIO" (ITK), itkGiplImageIO.
"""

import contextlib
import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from unet_jax.data.formats import meta_image
from unet_jax.data.formats.nifti_file import MAX_EXPANSION, MAX_VOXELS
from unet_jax.data.formats.voxel_grid import VoxelGrid, grid_from
from unet_jax.data.names import shown
from unet_jax.errors import InputError

if TYPE_CHECKING:
    import SimpleITK

# ITK counts to the left and the back, an affine to the right and the front.
# Of a file, for its grid: all.
GRID_BYTES = None
TO_RAS = np.array([-1.0, -1.0, 1.0])
# By numpy's name of a type, what the formats call it; GIPL has a number.
NRRD_TYPES = {"uint8": "uint8", "uint16": "uint16", "float32": "float"}
GIPL_TYPES = {"uint8": 8, "uint16": 16, "float32": 64}
GIPL_HEADER, GIPL_MAGIC = 256, (719555000, 4026526128)
# Fields of a NRRD that have an entry for each axis.
NRRD_AXES = "sizes|spacings|thicknesses|axis mins|axis maxs|centers|centerings|kinds|space directions|labels|units"
IMAGE_IO = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO", ".gipl": "GiplImageIO"}


def decode(data: bytes, name: PurePath | str) -> tuple[np.ndarray, VoxelGrid]:
    """The array of a file, in the file's own order of axes, and its grid.

    Args:
        data: the file's bytes; an .mhd comes with its voxels, as `two_files` has it.
        name: the file's, for messages and for its suffix.

    Returns:
        [i, j, k], or [i, j, k, c] of several channels, in the file's type, or float32 of float64; a picture of two axes
        has one slice. The grid's header is the file's, as bytes.

    Raises:
        InputError: the bytes are not such a file, are damaged, name another file, or claim more voxels than MAX_VOXELS
            or than the file can hold: then nothing is set aside for them.
    """
    image, array = read(data, name)
    try:
        return array, _grid(image, _header(data, _suffix(name)))
    except InputError as error:
        raise InputError(f"{shown(name)}: {error}") from error


def read_grid(data: bytes, name: PurePath | str) -> VoxelGrid:
    """The grid of a file, without its voxels; arguments and what it raises are those of `decode`."""
    with _opened(data, name) as reader:
        return _grid(reader, _header(data, _suffix(name)))


def read(data: bytes, name: PurePath | str) -> tuple["SimpleITK.Image", np.ndarray]:
    """SimpleITK's image of a file, and its array as `decode` has it.

    Raises:
        InputError: as `decode`.
    """
    with _opened(data, name) as reader:
        image = reader.Execute()
        return image, _array(simpleitk(), image)


@contextlib.contextmanager
def _opened(data: bytes, name: PurePath | str) -> Iterator["SimpleITK.ImageFileReader"]:
    """A reader of a file, which has read its header; what goes wrong within the block is an InputError of that file."""
    itk, suffix = simpleitk(), _suffix(name)
    try:
        _header(data, suffix)
        with tempfile.TemporaryDirectory(prefix="unet-jax-") as folder:
            # SimpleITK reads files alone.
            path = Path(folder, "volume" + suffix)
            path.write_bytes(meta_image.checked(data) if suffix == ".mha" else data)
            reader = itk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.SetImageIO(IMAGE_IO[suffix])
            reader.ReadImageInformation()
            _check_claims(reader, len(data))
            yield reader
    except InputError as error:
        raise InputError(f"{shown(name)}: {error}") from error
    except RuntimeError as error:
        reason = str(error).strip().rpartition("\n")[2].strip()[:200]
        raise InputError(f"{shown(name)}: the file is damaged ({reason}): restore it.") from error


def encode(volume: Shaped[np.ndarray, "d h w"], grid: VoxelGrid, suffix: str) -> dict[str, bytes]:
    """A volume in a case's geometry as a file in the grid that the case came from: its bytes by their suffix.

    An .mhd becomes one file, an .mha.

    Args:
        volume: uint8, uint16 or float32.
        grid: of the case's file.
        suffix: the file's.
    """
    array = np.ascontiguousarray(grid.to_file(volume).transpose(2, 1, 0))
    if suffix == ".gipl":
        head = grid.header[:6] + b"\0\1" + struct.pack(">H", GIPL_TYPES[array.dtype.name]) + grid.header[10:]
        return {suffix: head + array.astype(array.dtype.newbyteorder(">")).tobytes()}
    voxels = array.astype(array.dtype.newbyteorder("<")).tobytes()
    if suffix == ".nrrd":
        return {suffix: _nrrd_header(grid.header, array.dtype.name) + voxels}
    return {endings(suffix)[0]: meta_image.for_mask(grid.header, array.dtype.name) + voxels}


def endings(suffix: str) -> tuple[str]:
    """The suffix of the file that `encode` gives."""
    return (".mha" if suffix == ".mhd" else suffix,)


def simpleitk() -> ModuleType:
    """The package.

    Raises:
        InputError: it is not installed.
    """
    try:
        import SimpleITK
    except ImportError as error:
        raise InputError("NRRD, MetaImage and GIPL need the package SimpleITK: pip install '.[itk]'") from error
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    return SimpleITK


def _suffix(name: PurePath | str) -> str:
    suffix = PurePath(name).suffix.lower()
    return ".mha" if suffix == ".mhd" else suffix


def _header(data: bytes, suffix: str) -> bytes:
    """The part of the file before its voxels; the voxels must lie in the same file."""
    if suffix == ".nrrd":
        end = min((at for at in (data.find(b"\n\n"), data.find(b"\r\n\r\n")) if at >= 0), default=-1)
        if data[:4] != b"NRRD" or end < 0:
            raise InputError(f"is not a NRRD (its first bytes are {data[:8]!r}): restore it.")
        header = data[: end + 1].replace(b"\r\n", b"\n")
        if re.search(rb"^data ?file *:", header, re.MULTILINE | re.IGNORECASE):
            raise InputError("is the header of a NRRD whose voxels lie in another file: save it as one file.")
        return header
    if suffix == ".mha":
        return meta_image.header_of(data)
    if len(data) < GIPL_HEADER or struct.unpack(">I", data[252:256])[0] not in GIPL_MAGIC:
        raise InputError(f"is not a GIPL (its first bytes are {data[:8]!r}): restore it.")
    return data[:GIPL_HEADER]


def _check_claims(reader: "SimpleITK.ImageFileReader", file_bytes: int) -> None:
    shape = reader.GetSize()
    voxels = int(np.prod([*map(int, shape), reader.GetNumberOfComponents()], dtype=object))
    claim = f"claims {' x '.join(map(str, shape))} voxels"
    if voxels == 0:
        raise InputError("the image has no voxel: restore or remove it.")
    if voxels > MAX_VOXELS:
        raise InputError(f"{claim}; up to {MAX_VOXELS:,} are read: cut it up, or restore it.")
    if voxels > MAX_EXPANSION * file_bytes:
        raise InputError(f"{claim} in a file of {file_bytes:,} bytes, which cannot hold them: restore it.")
    if len(shape) not in (2, 3, 4):
        raise InputError(f"has {len(shape)} axes, where 2 or 3 are needed, or 4 with channels: save it with these.")


def _array(itk: ModuleType, image: "SimpleITK.Image") -> np.ndarray:
    array = itk.GetArrayFromImage(image)  # axes the other way round; components last
    axes = image.GetDimension()
    array = array.transpose(*range(axes)[::-1], *range(axes, array.ndim))
    if array.dtype.kind not in "iuf":
        raise InputError(f"has voxels of {array.dtype}: save it with whole or real numbers.")
    if axes == 4 and array.ndim == 5:
        raise InputError("has several channels at several times: save each time as a file of its own.")
    array = array[:, :, None] if axes == 2 else array
    array = array[..., 0] if array.ndim == 4 and array.shape[3] == 1 else array
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _grid(image: "SimpleITK.Image | SimpleITK.ImageFileReader", header: bytes) -> VoxelGrid:
    axes, n = image.GetDimension(), min(image.GetDimension(), 3)
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (axes, axes))[:n, :n]
    affine[:n, :n] = direction * image.GetSpacing()[:n]
    affine[:n, 3] = image.GetOrigin()[:n]
    affine[:3] *= TO_RAS[:, None]
    return grid_from(affine, (*image.GetSize()[:3], 1)[:3], header, flat=axes == 2)


def _nrrd_header(header: bytes, dtype: str) -> bytes:
    """The header of a file of one channel: an axis of channels is left out of every field that lists axes."""
    fields = dict(re.findall(rb"^([^#:\n]+): *(.*)$", header, re.MULTILINE))
    kinds, directions = fields.get(b"kinds", b"").split(), _entries(fields.get(b"space directions", b""))
    channels = [at for at, direction in enumerate(directions) if direction == b"none"] or [
        at for at, kind in enumerate(kinds) if kind not in (b"domain", b"space", b"???", b"none")
    ]
    if not channels and fields[b"dimension"] == b"4":
        channels = [3]
    lines = []
    for line in header.split(b"\n"):
        name, colon, value = line.partition(b":")
        if name in (b"type", b"encoding", b"endian", b"byte skip", b"line skip", b"byteskip", b"lineskip", b""):
            continue
        if name in (b"min", b"max", b"old min", b"old max", b"content", b"block size", b"blocksize"):
            continue
        if colon and not value.startswith(b"=") and re.fullmatch(NRRD_AXES.encode(), name) and channels:
            kept = [entry for at, entry in enumerate(_entries(value)) if at not in channels]
            line = name + b": " + b" ".join(kept)
        if name == b"dimension":
            line = b"dimension: %d" % (int(value) - len(channels))
        lines.append(line)
    lines += [f"type: {NRRD_TYPES[dtype]}".encode(), b"encoding: raw", b"endian: little"]
    return b"\n".join(lines) + b"\n\n"


def _entries(value: bytes) -> list[bytes]:
    """The entries of a field: vectors in brackets, texts in quotation marks, or words."""
    return re.findall(rb'\([^)]*\)|"[^"]*"|[^\s"()]+', value)

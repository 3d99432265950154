"""Formats of two files, a header and its voxels, as one: MetaImage's .mhd, and the .hdr and .img of NIfTI and Analyze.

What is read, hashed and decoded is then the bytes of both. A header can name no file but one beside it.
"""

import re
from collections.abc import Callable
from pathlib import PurePath

from unet_jax.data.names import shown
from unet_jax.errors import InputError

SUFFIXES = (".mhd", ".hdr", ".img")
# Of NIfTI-1 and of Analyze 7.5.
HEADER_BYTES = 348
DATA_FILE = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*?)[ \t]*\r?\n?\Z", re.MULTILINE)


def joined(data: bytes, path: PurePath, read: Callable[[PurePath], bytes]) -> bytes:
    """The bytes of a file; of an .mhd, .hdr or .img with those of its other half behind the header.

    An .mhd becomes what an .mha is. An .hdr and its .img become the header, padded to 352 bytes, and the voxels.

    Args:
        data: of the file.
        path: the file's.
        read: gives the bytes of another path.

    Raises:
        InputError: the other half cannot be read, or the header names a file that does not lie beside it.
    """
    suffix = path.suffix.lower()
    if suffix == ".mhd":
        return _meta_image(data, path, read)
    if suffix not in (".hdr", ".img"):
        return data
    # In the capital letters of the file's own suffix.
    other = {".hdr": ".img", ".img": ".hdr"}[suffix]
    beside = path.with_suffix(other.upper() if path.suffix.isupper() else other)
    header, voxels = (data, read(beside)) if suffix == ".hdr" else (read(beside), data)
    if len(header) < HEADER_BYTES:
        raise InputError(f"{shown(path)}: the header is damaged (it has {len(header):,} bytes): restore it.")
    return header[:HEADER_BYTES] + bytes(4) + voxels


def _meta_image(data: bytes, path: PurePath, read: Callable[[PurePath], bytes]) -> bytes:
    found = DATA_FILE.search(data)
    if found is None:
        raise InputError(f"{shown(path)}: is not the header of a MetaImage (no ElementDataFile): restore it.")
    name = found[1].decode("utf-8", "replace")
    if name in ("", "LOCAL", "LIST", ".", "..") or "%" in name or "/" in name or "\\" in name:
        raise InputError(
            f"{shown(path)}: its voxels are said to lie in {shown(name)}, and only one file beside it is read: save "
            "it as .mha."
        )
    return data[: found.start()] + b"ElementDataFile = LOCAL\n" + read(path.with_name(name))

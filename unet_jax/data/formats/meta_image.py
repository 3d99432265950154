"""MetaImage files, checked before SimpleITK sees them: ITK's parser corrupts memory where a header is damaged.

Source: "MetaIO" (ITK), MetaObject, MetaImage and the sizes of its types.
"""

import math
import re
import zlib

from unet_jax.data.formats.nifti_file import MAX_EXPANSION, MAX_VOXELS
from unet_jax.errors import InputError

# Bytes of a number, by type.
SIZES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4}
SIZES |= {"LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
# Written for a mask, by numpy's name of its type.
TYPES = {"uint8": "MET_UCHAR", "uint16": "MET_USHORT", "float32": "MET_FLOAT"}
# What says where voxels lie, and how many numbers it has for so many axes.
GEOMETRY = {
    **dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), lambda axes: axes * axes),
    **dict.fromkeys(("Offset", "Position", "Origin", "ElementSpacing", "ElementSize"), lambda axes: axes),
}
VOXELS = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*?)[ \t]*\r?\n", re.MULTILINE)
# Of a mask's header, what is its own; and what was of the image's numbers.
OWN = ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData", "CompressedDataSize")
OWN += (
    "ElementType",
    "ElementNumberOfChannels",
    "HeaderSize",
    "ElementMin",
    "ElementMax",
    "CompressionLevel",
    "Modality",
)


def header_of(data: bytes) -> bytes:
    """The header without its last line, which says that the voxels follow.

    Raises:
        InputError: there is none, or the voxels lie in another file. The message does not name the file.
    """
    found = VOXELS.search(data)
    if found is None:
        raise InputError(f"is not a MetaImage (its first bytes are {data[:8]!r}): restore it.")
    if found[1].lower() != b"local":
        raise InputError("is the header of a MetaImage whose voxels lie in another file: save it as one file.")
    return data[: found.start()].replace(b"\r\n", b"\n")


def checked(data: bytes) -> bytes:
    """The same image as a file with what is needed alone, its voxels not compressed.

    Raises:
        InputError: the header or the voxels are damaged, or claim too much. The message does not name the file.
    """
    fields = _fields(header_of(data))
    try:
        axes, channels = int(fields["NDims"]), int(fields.get("ElementNumberOfChannels", 1))
        shape = [int(value) for value in fields["DimSize"].split()]
        kind = fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")
        size = SIZES[kind]
        geometry = [(name, fields[name], count(axes)) for name, count in GEOMETRY.items() if name in fields]
        numbers = [float(value) for _, text, _ in geometry for value in text.split()]
    except (KeyError, ValueError) as error:
        raise InputError(f"the header is damaged, or of an unusual sort ({error}): restore it.") from error
    lengths_fit = all(len(text.split()) == count for _, text, count in geometry)
    if axes not in (2, 3, 4) or len(shape) != axes or not lengths_fit or not all(map(math.isfinite, numbers)):
        raise InputError(f"the header is damaged, or has other than 2, 3 or 4 axes ({axes}): restore it.")
    if fields.get("BinaryData", "True") != "True":
        raise InputError("holds its voxels as text: save it in binary.")
    if min(shape) < 1 or not 1 <= channels <= 2**10:
        raise InputError("the image has no voxel: restore or remove it.")
    count = math.prod(shape) * channels
    claim = f"claims {' x '.join(map(str, shape))} voxels"
    if count > MAX_VOXELS:
        raise InputError(f"{claim}; up to {MAX_VOXELS:,} are read: cut it up, or restore it.")
    if count * size > MAX_EXPANSION * len(data):
        raise InputError(f"{claim} in a file of {len(data):,} bytes, which cannot hold them: restore it.")
    voxels = _voxels(data[VOXELS.search(data).end() :], fields, count * size)
    swapped = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    lines = [
        "ObjectType = Image",
        f"NDims = {axes}",
        "BinaryData = True",
        f"BinaryDataByteOrderMSB = {swapped == 'True'}",
    ]
    lines += ["CompressedData = False", *(f"{name} = {text}" for name, text, _ in geometry)]
    lines += [f"DimSize = {' '.join(map(str, shape))}", f"ElementNumberOfChannels = {channels}"]
    lines += [f"ElementType = MET_{kind}", "ElementDataFile = LOCAL\n"]
    return "\n".join(lines).encode() + voxels


def for_mask(header: bytes, dtype: str) -> bytes:
    """The header of a file of one channel in the same place; of four axes, the first three.

    Args:
        header: of the image, as `header_of` gives it.
        dtype: a key of TYPES.
    """
    lines, four = [], _fields(header)["NDims"] == "4"
    for line in header.decode("latin-1").split("\n"):
        name, _, value = (part.strip() for part in line.partition("="))
        if not name or name in OWN:
            continue
        entries = value.split()
        if four and name == "NDims":
            line = "NDims = 3"
        elif four and len(entries) == 16:
            line = f"{name} = {' '.join(entries[4 * row + column] for row in range(3) for column in range(3))}"
        elif four and len(entries) == 4:
            line = f"{name} = {' '.join(entries[:3])}"
        lines.append(line)
    lines += ["BinaryData = True", "BinaryDataByteOrderMSB = False", "CompressedData = False"]
    lines += [f"ElementType = {TYPES[dtype]}", "ElementDataFile = LOCAL\n"]
    return "\n".join(lines).encode("latin-1")


def _fields(header: bytes) -> dict[str, str]:
    parts = [line.partition("=") for line in header.decode("latin-1").split("\n")]
    return {name.strip(): value.strip() for name, equals, value in parts if equals}


def _voxels(packed: bytes, fields: dict[str, str], needed: int) -> bytes:
    if fields.get("CompressedData") == "True":
        try:
            stream = zlib.decompressobj()
            # One byte more than fits: only then is the end of the stream reached, and its checksum.
            packed = stream.decompress(packed, needed + 1)
        except zlib.error as error:
            raise InputError(f"the file is damaged ({error}): restore it.") from error
        if not stream.eof:
            raise InputError("the file is damaged (its voxels end too soon, or too late): restore it.")
    elif fields.get("HeaderSize") == "-1":  # the voxels are the end of their file
        packed = packed[-needed:]
    if len(packed) != needed:
        raise InputError("the file is damaged (it holds fewer or more voxels than its header says): restore it.")
    return packed

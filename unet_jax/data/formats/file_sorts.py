"""Which sort of image a file is (picture, volume or DICOM), without the packages that read it."""

from pathlib import Path

from unet_jax.data.formats.table import Suffixes, format_of
from unet_jax.data.listing import entries
from unet_jax.data.names import shown
from unet_jax.errors import InputError

PICTURE_SUFFIXES = Suffixes("picture")
VOLUME_SUFFIXES = Suffixes("volume")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


def sort_of(path: Path) -> str:
    """The sort of a file, or of all images under a folder: "picture", "volume" or "dicom". Other files are ignored.

    Raises:
        InputError: the path does not exist, or holds no image, or images of several sorts.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    found: dict[str, Path] = {}
    for file in [path / entry for entry in entries(path)] if path.is_dir() else [path]:
        sort = sort_of_file(file)
        if sort is not None:
            found.setdefault(sort, file)
    if not found:
        raise InputError(
            f"{path}: holds no image that can be read ({', '.join((*PICTURE_SUFFIXES, *VOLUME_SUFFIXES))} or DICOM): "
            "see docs/data.md."
        )
    if len(found) > 1:
        listed = ", ".join(f"{shown(file.name)} ({sort})" for sort, file in found.items())
        raise InputError(f"{path}: holds images of several sorts, such as {listed}: give each sort by itself.")
    return next(iter(found))


def sort_of_file(path: Path) -> str | None:
    """The sort of a file by its suffix or by how DICOM begins; None if hidden or of no sort."""
    name = path.name.lower()
    if name.startswith(".") or name == "dicomdir" or path.is_dir():
        return None
    if found := format_of(path):
        return found[0].sort
    if name.endswith(".img"):  # the other half of an .hdr
        return "volume"
    if name.endswith(DICOM_SUFFIXES):
        return "dicom"
    if not path.is_file():  # opening a pipe would wait for ever
        return None
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return None
    return "dicom" if head[128:] == b"DICM" or is_bare_dicom(head) else None


def is_bare_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM does without the preamble: with an element of the groups 2 or 8.

    Its length or, in bytes 4 and 5, its kind in capital letters must be possible (PS3.5, 7.1).
    """
    if len(head) < 132 or head[128:132] == b"DICM" or head[0] not in (2, 8) or head[1] or head[3]:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or 0 < int.from_bytes(head[4:8], "little") <= 64

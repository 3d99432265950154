"""Every format of image files, by suffix: a new one is a module and a line of FORMATS.

A module has `decode` and `encode`. Of pictures, which have no place in the body, `decode(data, name, mask=False)` gives
[d, h, w, c] and `encode(volume, suffix)` bytes. Of volumes, `decode(data, name)` gives [i, j, k] or [i, j, k, c] with a
`VoxelGrid`, `read_grid(data, name)` it alone, from the first GRID_BYTES of the file (None: from all of it),
`encode(volume, grid, suffix)` the bytes of each file by its suffix, and `endings(suffix)` those suffixes.
DICOM is series of files: see `dicom`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Shaped

from unet_jax.data.formats import image_file, numpy_file, pillow_file
from unet_jax.errors import InputError

if TYPE_CHECKING:
    from unet_jax.data.formats.voxel_grid import VoxelGrid


def _nifti() -> ModuleType:
    from unet_jax.data.formats import nifti_file

    return nifti_file


def _itk() -> ModuleType:
    from unet_jax.data.formats import itk_file

    itk_file.simpleitk()
    return itk_file


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of files, or several that one module reads.

    Attributes:
        sort: whether its files are pictures, or volumes that know where they lie.
        suffixes: in small letters. Of two files that belong together, that of the header.
        module: that reads and writes it; imported when it is needed where its packages are an extra.
    """

    sort: Literal["picture", "volume"]
    suffixes: tuple[str, ...]
    module: Callable[[], ModuleType]


FORMATS = [
    Format("picture", (".png", ".tif", ".tiff", ".jpg", ".jpeg"), lambda: image_file),
    Format("picture", (".gif", ".bmp", ".webp"), lambda: pillow_file),
    Format("picture", (".npy", ".npz"), lambda: numpy_file),
    Format("volume", (".nii", ".nii.gz", ".hdr"), _nifti),
    Format("volume", (".nrrd", ".mha", ".mhd", ".gipl"), _itk),
]

BUILT_IN = len(FORMATS)


def register(form: Format) -> None:
    """Adds a format of your own: docs/own_parts.md.

    Args:
        form: whose suffixes are new; those of one that was registered before take its place.

    Raises:
        InputError: this package reads files of such a suffix itself.
    """
    if taken := [suffix for each in FORMATS[:BUILT_IN] for suffix in each.suffixes if suffix in form.suffixes]:
        raise InputError(f"files that end in {', '.join(taken)} are read by this package: give yours another ending.")
    FORMATS[BUILT_IN:] = [each for each in FORMATS[BUILT_IN:] if not set(each.suffixes) & set(form.suffixes)]
    FORMATS.append(form)


class Suffixes(Sequence[str]):
    """All suffixes of a sort, or of several, in small letters; with those that are registered later."""

    def __init__(self, *sorts: str):
        self.sorts = sorts

    def __getitem__(self, place: Any) -> Any:
        return self._all()[place]

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> tuple[str, ...]:
        return tuple(suffix for sort in self.sorts for suffix in suffixes(sort))


def suffixes(sort: str) -> tuple[str, ...]:
    """All suffixes of a sort, in small letters."""
    return tuple(suffix for each in FORMATS if each.sort == sort for suffix in each.suffixes)


def format_of(path: PurePath) -> tuple[Format, str] | None:
    """The format of a file by its name, in capital letters or small ones, and its suffix in small ones."""
    found = [(each, suffix) for each in FORMATS for suffix in each.suffixes if path.name.lower().endswith(suffix)]
    return max(found, key=lambda one: len(one[1]), default=None)


def check_packages(paths: Iterable[PurePath]) -> None:
    """Raises InputError, which names the extra, where a package that these files need is not installed."""
    for path in paths:
        format_of(path)[0].module()


def read_grid(data: bytes, path: PurePath) -> "VoxelGrid":
    """Where the voxels of a volume's file lie, by its header alone.

    Raises:
        InputError: the header cannot be read.
    """
    return format_of(path)[0].module().read_grid(data, path)


def read(
    data: bytes, path: PurePath, *, mask: bool = False, axes: str = "patient"
) -> tuple[Shaped[np.ndarray, "d h w c"], "VoxelGrid | None"]:
    """The voxels of a file of any format in a case's axes, in the file's own type, and where they lie.

    Args:
        data: the file's bytes.
        path: the file's, whose suffix FORMATS has.
        mask: whether it is a mask, which matters for palettes.
        axes: of volumes, config.data.axes.

    Raises:
        InputError: the file cannot be read.
    """
    kind, _ = format_of(path)
    if kind.sort == "picture":
        return kind.module().decode(data, path, mask=mask), None
    array, grid = kind.module().decode(data, path)
    grid = grid.with_axes(axes)
    turned = grid.to_case(array)
    return (turned if turned.ndim == 4 else turned[..., None]), grid

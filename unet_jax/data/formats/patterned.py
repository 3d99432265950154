"""Cases of any files that two patterns name: channels stacked, slices in order, several masks united.

Files of a case that tell where their voxels lie are compared by it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from unet_jax.data.case import Case
from unet_jax.data.faults import Fault, FaultsError
from unet_jax.data.formats import pictures
from unet_jax.data.formats.file_sorts import sort_of_name
from unet_jax.data.formats.pictures import noted, union
from unet_jax.data.labels import LabelMap
from unet_jax.data.reader import CaseFiles

DECODING = "patterns 1: channels in the pattern's order, 16 bits of pictures over 65535"

Read = Callable[[Path], bytes]


def decode(files: CaseFiles, read: Read, labels: LabelMap | None, threshold: int | None = None) -> Case:
    """Reads, checks and puts together the files of one case.

    Args:
        files: what `pattern_listing` said of the case.
        read: gives the bytes of a path of `files`, or raises InputError.
        labels: which values of the masks are which class; None where they hold 0 and 1 or 0 and 255.
        threshold: see `mask_file.decode`.

    Returns:
        image uint8, or float32 where any file has other types: 0 to 65535 of pictures as 0 to 1, volumes in their own
        units; mask of classes, or None where `files` has none; spacing of volumes, in mm.

    Raises:
        InputError: every fault of the case, one line each.
    """
    sorts = {sort_of_name(path) for path in (*files.images, *files.masks)}
    if sorts == {"nifti"}:
        return _of_volumes(files, read, labels, threshold)
    if sorts == {"picture"}:
        return pictures.decode(files, read, labels, threshold)
    found = ", ".join(sorted({path.suffix or "no suffix" for path in (*files.images, *files.masks)}))
    faults = files.faults or [
        Fault(files.name, f"has files of {found}, which are not read together: convert them to one format.", "sorts")
    ]
    raise FaultsError(faults)


def _of_volumes(files: CaseFiles, read: Read, labels: LabelMap | None, threshold: int | None) -> Case:
    from unet_jax.data.formats import nifti, nifti_file

    faults = list(files.faults)
    grids: dict = {}

    def volume(path: Path) -> np.ndarray:
        array, grid = nifti_file.decode(read(path), path)
        nifti.check_together(path, grid, grids)
        grids[path] = grid
        if path not in files.masks:
            array = array.astype(np.float32)
            return array if array.ndim == 4 else array[..., None]
        if array.ndim == 4:
            raise FaultsError([Fault(path, f"the mask has {array.shape[3]} channels: save it with one.", "channels")])
        return nifti.classes(array, path, labels, threshold)

    if len(files.images) != files.channels and not faults:
        mistake = f"has {len(files.images) // files.channels} volumes as slices: leave {{slice}} to pictures."
        faults.append(Fault(files.name, mistake, "volumes as slices"))
    images, masks = (list(noted(paths, volume, faults)) for paths in (files.images, files.masks))
    if faults:
        raise FaultsError(faults)
    grid = grids[files.images[0]]
    image = np.ascontiguousarray(grid.to_case(np.concatenate(images, axis=-1)))
    mask = np.ascontiguousarray(grid.to_case(union(masks, files.masks))) if masks else None
    return Case(files.name, files.patient, image, mask, grid.spacing)

"""One file as nnU-Net's readers give it: channels [slices, rows, columns] in the file's own axes, and their geometry.

Source: nnunetv2 2.8.1, imageio/. Unlike the readers of unet_jax.data, nothing is turned to the patient.
"""

import json
from typing import Any

import numpy as np
from jaxtyping import Float64, Num

from unet_jax.data.formats import image_file, pillow_file
from unet_jax.data.formats.image_header import read_headers
from unet_jax.data.names import shown
from unet_jax.errors import InputError

PICTURES, TIFF_3D, ITK = "NaturalImage2DIO", "Tiff3DIO", "SimpleITKIO"
NIBABEL, TO_RAS = "NibabelIO", "NibabelIOWithReorient"
# The files that each is asked for here: nnU-Net's own endings, and Pictures' and SimpleITK's further ones.
ENDINGS = {
    PICTURES: (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg"),
    TIFF_3D: (".tif", ".tiff"),
    ITK: (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl"),
    NIBABEL: (".nii.gz", ".nii"),
    TO_RAS: (".nii.gz", ".nii"),
}
# What nnU-Net gives a picture: no slice is next to it.
PICTURE_SPACING = (999.0, 1.0, 1.0)
FLAT = 999.0

# The channels of a file, and nnU-Net's geometry of it.
Read = tuple[list[Num[np.ndarray, "_ _ _"]], dict[str, Any]]


def decode(data: bytes, name: str, reader: str | None, sidecar: bytes | None = None) -> Read:
    """The channels of a file and nnU-Net's geometry of it.

    Args:
        data: the file's bytes.
        name: the file's.
        reader: nnU-Net's, a key of ENDINGS. A TIFF of several pages is read as TIFF_3D reads it: for nnU-Net, the first
            reader that can.
        sidecar: of a TIFF of several pages, the JSON beside it that has its spacing.

    Raises:
        InputError: the file cannot be read, or not by this reader.
    """
    if reader not in ENDINGS or not name.lower().endswith(ENDINGS[reader]):
        raise InputError(
            f"{shown(name)}: nnU-Net's reader for it, {reader}, is not one of those understood here "
            f"({', '.join(ENDINGS)}): convert it to .nii.gz."
        )
    if reader in (PICTURES, TIFF_3D):
        return _picture(data, name, reader, sidecar)
    if name.lower().endswith((".nii", ".nii.gz")):
        return _nifti(data, name, reader)
    return _itk(data, name)


def _picture(data: bytes, name: str, reader: str, sidecar: bytes | None) -> Read:
    module = pillow_file if name.lower().endswith(".bmp") else image_file
    pixels = module.decode(data, name, mask=True)
    if module is image_file and read_headers(data)[0].bits == 1:
        pixels = pixels // 255
    if len(pixels) == 1 and reader == PICTURES:
        return list(np.moveaxis(pixels, -1, 0)), {"spacing": PICTURE_SPACING}
    if pixels.shape[-1] != 1:
        raise InputError(f"{shown(name)}: has pages of {pixels.shape[-1]} channels: save each channel as a file.")
    return [pixels[..., 0]], {"spacing": _spacing_beside(name, sidecar)}


def _spacing_beside(name: str, sidecar: bytes | None) -> tuple[float, ...]:
    if sidecar is None:
        return (1.0, 1.0, 1.0)
    try:
        spacing = tuple(float(value) for value in json.loads(sidecar)["spacing"])
    except (ValueError, KeyError, TypeError) as error:
        spacing, problem = (), error
    else:
        problem = None
    if len(spacing) != 3 or not all(0 < value < np.inf for value in spacing):
        raise InputError(
            f'{shown(name)}: the JSON beside it needs "spacing": [1, 1, 1], three numbers above 0.'
        ) from problem
    return spacing


def _nifti(data: bytes, name: str, reader: str) -> Read:
    # Pictures can be read without nibabel.
    from nibabel.orientations import apply_orientation, io_orientation

    from unet_jax.data.formats.nifti_file import decode as decode_nifti
    from unet_jax.data.formats.voxel_grid import MM, axes_of

    volume, grid = decode_nifti(data, name)
    axes = len(axes_of(grid.header))
    affine, spacing = grid.affine, [abs(float(n)) for n in grid.header.get_zooms()[: max(axes, 3)]]
    if volume.ndim == 4 and axes == 3:
        raise InputError(f"{shown(name)}: holds colours, which nnU-Net does not read: save each as a file of its own.")
    if axes != 3 and reader != ITK:
        raise InputError(f"{shown(name)}: has {axes} axes, and {reader} reads 3: save it with 3, a file a channel.")
    if reader == TO_RAS:
        turned = io_orientation(affine)
        spacing = [spacing[at] for at in np.argsort(turned[:, 0])]
        volume = apply_orientation(volume, turned)
    geometry: dict[str, Any] = {"nibabel_stuff": {"original_affine": affine.tolist()}}
    if reader == ITK:
        # SimpleITK heeds the header's unit.
        unit = MM.get(int(grid.header["xyzt_units"]) % 8, 1.0)
        spacing = [n * unit for n in spacing[:3]] + spacing[3:]
        geometry = {"sitk_stuff": _as_itk(affine[:3] * unit, spacing, axes)}
        geometry["sitk_stuff"]["origin"][3:] = [float(grid.header["toffset"])] * (axes - 3)
    channels = [volume] if volume.ndim == 3 else list(np.moveaxis(volume, 3, 0))
    return [channel.transpose(2, 1, 0) for channel in channels], geometry | {"spacing": _spacing(spacing[:axes])}


def _as_itk(affine: Float64[np.ndarray, "3 4"], spacing: list[float], axes: int) -> dict[str, list[float]]:
    to_lps = np.array([[-1.0], [-1.0], [1.0]]) * affine
    # A fourth axis has a direction of its own.
    n, direction, origin = min(axes, 3), np.eye(axes), np.zeros(axes)
    direction[:n, :n] = (to_lps[:, :3] / np.linalg.norm(to_lps[:, :3], axis=0))[:n, :n]
    origin[:n] = to_lps[:n, 3]
    # Adding 0 makes 0 of -0.
    return {
        "spacing": spacing[:axes],
        "origin": (origin + 0.0).tolist(),
        "direction": (direction + 0.0).ravel().tolist(),
    }


def _itk(data: bytes, name: str) -> Read:
    from unet_jax.data.formats import itk_file

    image, array = itk_file.read(data, name)
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(f"{shown(name)}: has voxels of several numbers: save each channel as a file of its own.")
    channels = [array] if array.ndim == 3 else list(np.moveaxis(array, 3, 0))
    geometry = {
        "spacing": list(image.GetSpacing()),
        "origin": list(image.GetOrigin()),
        "direction": list(image.GetDirection()),
    }
    spacing = _spacing([abs(value) for value in image.GetSpacing()])
    return [channel.transpose(2, 1, 0) for channel in channels], {"sitk_stuff": geometry, "spacing": spacing}


def _spacing(of_file: list[float]) -> tuple[float, ...]:
    """nnU-Net's, slices first, of a file's, columns first: a picture's slices lie far apart, and channels have none."""
    if len(of_file) == 2:
        return (max(of_file) * FLAT, *of_file[::-1])
    return tuple(of_file[:3][::-1])

"""nnU-Net's readers: what SimpleITK gives, in the axes and with the spacing that nnU-Net makes of it (imageio/)."""

import json

import cv2
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from scipy.spatial.transform import Rotation

from unet_jax.errors import InputError
from unet_jax.plan import raw, raw_file
from unet_jax.plan.dataset import read_dataset

RNG = np.random.default_rng(0)


def as_nnunet(path):
    """Channels, spacing and geometry of SimpleITKIO, for a file of one number a voxel."""
    image = sitk.ReadImage(path)
    array, spacing = sitk.GetArrayFromImage(image), list(image.GetSpacing())[::-1]
    if array.ndim == 2:
        array, spacing = array[None, None], [999 * max(spacing), *spacing]
    elif array.ndim == 3:
        array = array[None]
    else:
        spacing = spacing[1:]
    return array, spacing, (image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def turned(axes, seed=0):
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.integers(0, 99, rng.integers(3, 7, axes)).astype(np.int16), isVector=False)
    image.SetSpacing(rng.uniform(0.5, 4, axes))
    image.SetOrigin(rng.normal(0, 50, axes))
    direction = np.eye(axes)
    direction[: min(axes, 3), : min(axes, 3)] = (
        Rotation.random(rng=rng).as_matrix() if axes > 2 else [[0.6, -0.8], [0.8, 0.6]]
    )
    image.SetDirection(direction.ravel())
    return image


@pytest.mark.parametrize(
    ("suffix", "axes"),
    [(".nrrd", 2), (".nrrd", 3), (".mha", 2), (".mha", 3), (".mha", 4), (".nii.gz", 2), (".nii.gz", 3), (".nii.gz", 4)],
)
def test_simpleitk_reads_what_nnunet_reads(tmp_path, suffix, axes):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(turned(axes), path)
    arrays, geometry = raw_file.decode(path.read_bytes(), path.name, "SimpleITKIO")
    expected, spacing, stuff = as_nnunet(path)
    np.testing.assert_array_equal(np.stack(arrays), expected)
    np.testing.assert_allclose(geometry["spacing"], spacing, rtol=1e-6)
    found = (geometry["sitk_stuff"][name] for name in ("spacing", "origin", "direction"))
    for one, other in zip(found, stuff, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_gipl(tmp_path):
    image = sitk.GetImageFromArray(RNG.integers(0, 99, (3, 4, 5)).astype(np.int16))
    image.SetSpacing((1, 2, 3))
    sitk.WriteImage(image, tmp_path / "a.gipl")
    [array], geometry = raw_file.decode((tmp_path / "a.gipl").read_bytes(), "a.gipl", "SimpleITKIO")
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image))
    assert geometry["spacing"] == (3, 2, 1)


def test_nibabels_readers_take_three_axes(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5, 2), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a\.nii: has 4 axes, and NibabelIO reads 3"):
        raw_file.decode((tmp_path / "a.nii").read_bytes(), "a.nii", "NibabelIO")


def test_bmp_and_pictures_are_slices_far_apart(tmp_path):
    pixels = RNG.integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    arrays, geometry = raw_file.decode((tmp_path / "a.bmp").read_bytes(), "a.bmp", "NaturalImage2DIO")
    np.testing.assert_array_equal(np.stack(arrays), pixels.transpose(2, 0, 1)[:, None])
    assert geometry == {"spacing": (999, 1, 1)}


@pytest.mark.parametrize("beside", [None, [3, 0.5, 0.25]])
def test_tiffs_of_several_pages_are_volumes(tmp_path, beside):
    values = {
        "channel_names": {"0": "EM"},
        "labels": {"background": 0, "a": 1},
        "numTraining": 1,
        "file_ending": ".tif",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    volume = RNG.integers(0, 256, (4, 5, 6), np.uint8)
    for folder, name, pages in (("imagesTr", "x_0000", volume), ("labelsTr", "x", volume > 99)):
        (tmp_path / folder).mkdir()
        cv2.imwritemulti(str(tmp_path / folder / f"{name}.tif"), list(pages.astype(np.uint8)))
    if beside:
        (tmp_path / "imagesTr" / "x.json").write_text(json.dumps({"spacing": beside}))
    dataset = read_dataset(tmp_path / "dataset.json")
    [found] = raw.cases(tmp_path, dataset)
    case, _ = raw.read(found, dataset)
    np.testing.assert_array_equal(case.image[..., 0], volume)
    np.testing.assert_array_equal(case.mask, volume > 99)
    assert case.spacing == tuple(beside or (1, 1, 1))
    assert len(found.files) == (3 if beside else 2)


def test_a_spacing_that_is_none_is_refused():
    page = cv2.imencodemulti(".tif", [np.zeros((4, 5), np.uint8)] * 2)[1].tobytes()
    for text in (b"{}", b"nothing", b'{"spacing": [1, 2]}', b'{"spacing": [1, 2, 0]}', b'{"spacing": ["a", 1, 1]}'):
        with pytest.raises(InputError, match=r'^a\.tif: the JSON beside it needs "spacing"'):
            raw_file.decode(page, "a.tif", "Tiff3DIO", text)


def test_a_reader_is_asked_for_its_own_files_alone():
    for reader, name in (("SimpleITKIO", "a.png"), ("NibabelIO", "a.nrrd"), ("Tiff3DIO", "a.png"), (None, "a.nii")):
        with pytest.raises(InputError, match=rf"{name}: nnU-Net's reader for it, {reader}, is not one of those"):
            raw_file.decode(b"", name, reader)

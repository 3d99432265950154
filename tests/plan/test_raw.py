import json

import nibabel
import numpy as np
import pytest

from unet_jax.errors import InputError
from unet_jax.plan import raw
from unet_jax.plan.dataset import read_dataset

LABELS = {"background": 0, "a": 1, "b": 2}


def describe(root, **changes):
    values = {"channel_names": {"0": "T1"}, "labels": LABELS, "numTraining": 1, "file_ending": ".nii.gz"} | changes
    root.mkdir(exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(values))
    return read_dataset(root / "dataset.json")


def write(path, array, affine=(2.0, 3.0, 4.0, 1.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag(affine) if np.ndim(affine) == 1 else affine
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def write_case(root, *, image=None, mask=None, name="x", **geometry):
    image = np.arange(1, 25, dtype=np.int16).reshape(2, 3, 4) if image is None else image
    write(root / f"imagesTr/{name}_0000.nii.gz", image, **geometry)
    write(root / f"labelsTr/{name}.nii.gz", np.ones(image.shape, np.uint8) if mask is None else mask, **geometry)
    return image


def test_slices_first_and_the_geometry_of_simpleitk(tmp_path):
    dataset = describe(tmp_path)
    affine = np.array([[0, -3, 0, 5], [2, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1.0]])
    image = write_case(tmp_path, affine=affine)
    case, geometry = raw.read(raw.find(tmp_path, dataset, "x"), dataset)
    np.testing.assert_array_equal(case.image[..., 0], image.transpose(2, 1, 0))
    assert case.image.dtype == np.float32
    assert case.mask.dtype == np.uint8
    assert case.spacing == geometry["spacing"] == (4, 3, 2)
    # RAS to LPS: x and y change their sign; direction's columns are the axes.
    itk = {"spacing": [2, 3, 4], "origin": [-5, -6, 7], "direction": [0, 1, 0, -1, 0, 0, 0, 0, 1]}
    assert geometry["sitk_stuff"] == itk


def test_turned_to_the_patient(tmp_path):
    dataset = describe(tmp_path, overwrite_image_reader_writer="NibabelIOWithReorient")
    affine = np.array([[0, -3, 0, 5], [2, 0, 0, 6], [0, 0, -4, 7], [0, 0, 0, 1.0]])
    image = write_case(tmp_path, affine=affine)
    case, geometry = raw.read(raw.find(tmp_path, dataset, "x"), dataset)
    expected = nibabel.as_closest_canonical(nibabel.load(tmp_path / "imagesTr/x_0000.nii.gz"))
    np.testing.assert_array_equal(case.image[..., 0], expected.get_fdata().transpose(2, 1, 0))
    assert case.spacing == tuple(float(n) for n in expected.header.get_zooms()[::-1]) == (4, 2, 3)
    assert geometry["nibabel_stuff"]["original_affine"] == affine.tolist()
    assert image.shape == (2, 3, 4)


def test_the_table_names_files_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "far"))
    table = {"z": {"images": ["$ELSEWHERE/one.nii.gz"], "label": "near/two.nii.gz"}}
    root = tmp_path / "set"
    dataset = describe(root, dataset=table)
    image = np.ones((2, 3, 4), np.float32)
    write(tmp_path / "far/one.nii.gz", image)
    write(root / "near/two.nii.gz", image.astype(np.uint8))
    [case] = raw.cases(root, dataset)
    assert case.name == "z"
    assert raw.read(case, dataset)[0].mask.all()


def test_links_are_followed(tmp_path):
    dataset = describe(tmp_path / "set")
    write_case(tmp_path / "set")
    image = tmp_path / "set/imagesTr/x_0000.nii.gz"
    image.rename(tmp_path / "annex")
    image.symlink_to(tmp_path / "annex")
    [case] = raw.cases(tmp_path / "set", dataset)
    assert raw.read(case, dataset)[0].image.sum() == 300


def test_channels_are_in_the_order_of_their_numbers(tmp_path):
    dataset = describe(tmp_path, channel_names={"0": "T1", "1": "T2"})
    write_case(tmp_path)
    write(tmp_path / "imagesTr/x_0001.nii.gz", np.full((2, 3, 4), 7, np.int16))
    case, _ = raw.read(raw.find(tmp_path, dataset, "x"), dataset)
    assert case.image[..., 1].mean() == 7


def test_a_case_without_a_mask(tmp_path):
    dataset = describe(tmp_path)
    write_case(tmp_path)
    (tmp_path / "labelsTr/x.nii.gz").unlink()
    assert raw.read(raw.find(tmp_path, dataset, "x"), dataset)[0].mask is None


MISTAKES = {
    "a label too many": (
        lambda root: write_case(root, mask=np.full((2, 3, 4), 9, np.uint8)),
        "x: x.nii.gz has voxels of 9, which dataset.json has no label for: correct one of them.",
    ),
    "labels that are not whole": (
        lambda root: write_case(root, mask=np.full((2, 3, 4), 0.5, np.float32)),
        "x: x.nii.gz has voxels of 0.5, which dataset.json has no label for: correct one of them.",
    ),
    "a mask of another size": (
        lambda root: write_case(root, mask=np.ones((2, 3, 5), np.uint8)),
        "x: x.nii.gz is 5 × 3 × 2 and x_0000.nii.gz 4 × 3 × 2: make them agree.",
    ),
    "a mask of another spacing": (
        lambda root: (write_case(root), write(root / "labelsTr/x.nii.gz", np.ones((2, 3, 4), np.uint8), (1, 3, 4, 1))),
        "x: x.nii.gz has a spacing of 4 × 3 × 1 mm and x_0000.nii.gz of 4 × 3 × 2: make them agree.",
    ),
    "a channel too many": (
        lambda root: (write_case(root), write(root / "imagesTr/x_0001.nii.gz", np.ones((2, 3, 4), np.int16))),
        "x: it has 2 channels and dataset.json 1: make them agree.",
    ),
    "NaN": (
        lambda root: write_case(root, image=np.full((2, 3, 4), np.nan, np.float32)),
        "x: 24 pixels of the image are NaN or infinite",
    ),
    "half a file": (
        lambda root: (write_case(root), (root / "imagesTr/x_0000.nii.gz").write_bytes(b"\x1f\x8bno")),
        "x_0000.nii.gz: the file is damaged",
    ),
    "no file": (lambda root: (root / "imagesTr").mkdir(), "has no file such as case_0000.nii.gz: add cases."),
    "no folder": (lambda root: None, "imagesTr: cannot be read"),
    "a table of something else": (
        lambda root: describe(root, dataset={"x": {"images": "a.nii.gz"}}),
        "dataset.x.images",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(mistake, tmp_path):
    make, expected = MISTAKES[mistake]
    dataset = describe(tmp_path)
    make(tmp_path)
    with pytest.raises(InputError) as error:
        raw.read(raw.find(tmp_path, dataset, "x"), dataset)
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_readers_that_are_not_here(tmp_path):
    dataset = describe(tmp_path, file_ending=".mgz")
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr/x_0000.mgz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x_0000.mgz: nnU-Net's reader for it, None, .* convert it to .nii.gz"):
        raw.read(raw.find(tmp_path, dataset, "x"), dataset)

from pathlib import Path

import nibabel
import numpy as np
import pytest

from unet_jax.check import axes
from unet_jax.data.formats import itk_file, table
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.reader import CaseFiles


def rotated(degrees):
    angle = np.radians(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return affine


@pytest.mark.parametrize(
    ("affine", "letters", "tilt"),
    [
        (np.diag([-1.0, -2, 3, 1]), "LPS", 0),
        (np.eye(4), "RAS", 0),
        (np.array([[0, 0, 2.0, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]), "PIR", 0),
        (rotated(30), "RAS", 30),
    ],
)
def test_letters_are_the_sides_that_voxels_are_counted_to(tmp_path, affine, letters, tilt):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), affine)
    nibabel.save(image, tmp_path / "a.nii.gz")
    found = axes.read(tmp_path, CaseFiles("a", "a", (Path("a.nii.gz"),), ()))
    assert found.letters == letters == "".join(nibabel.aff2axcodes(affine))
    assert found.tilt == pytest.approx(tilt, abs=1e-4)
    assert axes.read(tmp_path, CaseFiles("a", "a", (Path("a.png"),), ())) is None


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".gipl"])
def test_a_header_alone_says_where_voxels_lie(tmp_path, suffix, monkeypatch):
    itk = pytest.importorskip("SimpleITK")
    image = itk.GetImageFromArray(np.zeros((5, 4, 3), np.int16))
    image.SetSpacing((0.5, 2, 3))
    itk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    name = Path(f"a{suffix}")
    _, whole = itk_file.decode(read_file(tmp_path, name), name)
    monkeypatch.setattr(itk_file, "_array", None)
    peeked = table.read_grid(read_file(tmp_path, name), name)
    assert (peeked.shape, peeked.spacing) == (whole.shape, whole.spacing) == ((3, 4, 5), whole.spacing)
    np.testing.assert_array_equal(peeked.affine, whole.affine)

from pathlib import Path

import dicom_series
import nibabel
import numpy as np
import pytest
import SimpleITK

from unet_jax.data.formats import orientation
from unet_jax.data.reader import CaseFiles


def edges(folder, name, source="nifti", axes="patient"):
    return orientation.edges(CaseFiles("a", "a", (Path(name),), ()), folder, source, axes)


@pytest.mark.parametrize(
    ("lengths", "axes", "expected"),
    [
        # radiological: the patient's right at the left
        ((1, 1, 3), "patient", "RLAP"),
        ((1, 3, 1), "patient", "RLSI"),
        ((3, 1, 1), "patient", "APSI"),
        # nibabel's canonical order, reversed: columns count to the right, rows to the front
        ((1, 1, 3), "ras", "LRPA"),
        # the file's own order, reversed: its x counts to the left, its y to the back
        ((1, 1, 3), "file", "RLAP"),
    ],
)
def test_edges_of_a_nifti_follow_its_affine(lengths, axes, expected, tmp_path):
    affine = np.diag([-lengths[0], -lengths[1], lengths[2], 1.0])
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), affine), tmp_path / "a.nii.gz")
    assert edges(tmp_path, "a.nii.gz", axes=axes) == expected


def test_a_nifti_that_leaves_its_directions_to_custom_has_no_known_edges(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), None)
    assert int(image.header["qform_code"]) == int(image.header["sform_code"]) == 0
    nibabel.save(image, tmp_path / "a.nii")
    assert edges(tmp_path, "a.nii") is None


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_edges_of_a_volume_of_itk(ending, tmp_path):
    image = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    SimpleITK.WriteImage(image, str(tmp_path / f"a{ending}"))
    # ITK counts to the left and the back; this one counts to the right and the front
    assert edges(tmp_path, f"a{ending}", axes="file") == "LRPA"
    assert edges(tmp_path, f"a{ending}") == "RLAP"


def test_a_gipl_and_pictures_and_missing_files_have_no_known_edges(tmp_path):
    image = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
    SimpleITK.WriteImage(image, str(tmp_path / "a.gipl"))
    assert edges(tmp_path, "a.gipl") is None
    assert edges(tmp_path, "a.png", "pairs") is None
    assert edges(tmp_path, "missing.nii.gz") is None


@pytest.mark.parametrize(
    ("directions", "expected"),
    [([1, 0, 0, 0, 1, 0], "RLAP"), ([0, 0.9, -0.436, 0, -0.436, -0.9], "APSI"), (None, None)],
)
def test_edges_of_dicom_are_those_of_its_directions(directions, expected, tmp_path):
    one = dicom_series.make_slice(0, ImageOrientationPatient=directions)
    dicom_series.write_series(tmp_path, [one])
    assert edges(tmp_path, "0.dcm", "dicom") == expected

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from unet_jax.data.formats.voxel_grid import axes_of, farthest_apart, grid_of
from unet_jax.errors import InputError

# Every way in which a file's axes can run along the body's: 6 orders, 8 signs.
ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def _header(affine, shape):
    return nibabel.Nifti1Image(np.zeros(shape, np.uint8), affine).header


def _affine(order, signs, spacing, origin=(-20.0, 11.0, 5.0)):
    """The array's axis n runs along the body's axis order[n], in the direction signs[n]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (bodily, sign) in enumerate(zip(order, signs, strict=True)):
        affine[bodily, axis] = sign * spacing[bodily]
    affine[:3, 3] = origin
    return affine


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
@pytest.mark.parametrize("spacing", [(1, 1.5, 5), (1, 6, 1.2), (4, 1, 1.1), (1, 1.1, 1.2)])
def test_slices_run_the_same_way_through_the_body_whatever_the_file(order, signs, spacing):
    affine = _affine(order, signs, spacing)
    grid = grid_of(_header(affine, (3, 4, 5)))
    places = np.stack(np.meshgrid(*map(np.arange, (3, 4, 5)), indexing="ij"), -1)
    body = places @ affine[:3, :3].T + affine[:3, 3]  # of each voxel, mm towards right, front and head
    seen = np.stack([grid.to_case(np.ascontiguousarray(body[..., axis])) for axis in range(3)], -1)

    along = {"R": [1, 0, 0], "L": [-1, 0, 0], "P": [0, -1, 0], "S": [0, 0, 1], "I": [0, 0, -1]}
    expected = {(1, 1.5, 5): "SPL", (1, 6, 1.2): "PIL", (4, 1, 1.1): "RIP", (1, 1.1, 1.2): "SPL"}[spacing]
    for axis, letter in enumerate(expected):
        step = np.diff(seen, axis=axis).reshape(-1, 3)
        np.testing.assert_allclose(step, np.broadcast_to(grid.spacing[axis] * np.array(along[letter]), step.shape))
        assert grid.spacing[axis] == pytest.approx(np.abs(np.array(along[letter])) @ spacing)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_the_way_back_is_exact_even_for_tilted_files(order, signs):
    turn = nibabel.eulerangles.euler2mat(0.3, -0.2, 0.25)
    affine = _affine(order, signs, (1, 1.5, 5))
    affine[:3, :3] = turn @ affine[:3, :3]
    grid = grid_of(_header(affine, (3, 4, 5)))
    volume = np.random.default_rng(0).integers(0, 255, (3, 4, 5), np.uint8)
    np.testing.assert_array_equal(grid.to_file(grid.to_case(volume)), volume)
    np.testing.assert_allclose(sorted(grid.spacing), [1, 1.5, 5], rtol=1e-6)


@pytest.mark.parametrize("axes", ["file", "ras"])
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_other_axes_are_those_of_simpleitk_and_of_nibabels_canonical_order(order, signs, axes, tmp_path):
    turn = nibabel.eulerangles.euler2mat(0.1, -0.2, 0.15)
    affine = _affine(order, signs, (1, 1.5, 5))
    affine[:3, :3] = turn @ affine[:3, :3]
    volume = np.random.default_rng(0).integers(0, 255, (3, 4, 5), np.uint8)
    image = nibabel.Nifti1Image(volume, affine)
    nibabel.save(image, tmp_path / "a.nii")
    grid = grid_of(image.header).with_axes(axes)
    if axes == "file":
        read = sitk.ReadImage(str(tmp_path / "a.nii"))
        expected, spacing = sitk.GetArrayFromImage(read), read.GetSpacing()[::-1]
    else:
        turned = nibabel.as_closest_canonical(image)
        expected, spacing = np.asarray(turned.dataobj).T, turned.header.get_zooms()[::-1]
    np.testing.assert_array_equal(grid.to_case(volume), expected)
    np.testing.assert_array_equal(grid.to_case(np.stack([volume, volume], -1))[..., 1], expected)
    np.testing.assert_array_equal(grid.to_file(expected), volume)
    np.testing.assert_allclose(grid.spacing, spacing, rtol=1e-5)
    assert grid_of(image.header).with_axes("patient").plane in ("axial", "coronal", "sagittal")


def test_units_become_millimetres():
    header = _header(np.diag([0.001, 0.001, 0.005, 1]), (3, 4, 5))
    header.set_xyzt_units("meter")
    np.testing.assert_allclose(grid_of(header).spacing, (5, 1, 1), rtol=1e-6)


def test_a_last_axis_of_one_is_dropped_a_fourth_is_channels_and_a_fifth_is_refused():
    for shape in ((3, 4, 5, 1), (3, 4, 5, 2), (3, 4, 5, 1, 2)):
        assert grid_of(_header(np.eye(4), shape)).shape == (3, 4, 5)
    assert axes_of(_header(np.eye(4), (3, 4, 5, 1, 2))) == (3, 4, 5, 2)
    for shape in ((3, 4, 5, 2, 2), (3,)):
        with pytest.raises(InputError, match="where 3 axes are needed, or 4 with channels"):
            grid_of(_header(np.eye(4), shape))


def test_a_picture_of_two_axes_is_one_slice_whatever_its_voxels_sizes():
    for sizes in ([1, 1, 5, 1], [1, 1, 1, 1], [5, 1, 1, 1]):
        grid = grid_of(_header(np.diag(sizes), (3, 4)))
        assert (grid.shape, grid.plane) == ((3, 4, 1), "axial")
        assert grid.to_case(np.zeros((3, 4, 1))).shape == (1, 4, 3)


@pytest.mark.parametrize("bad", [np.diag([1, 1, 0, 1]), np.diag([1, np.nan, 1, 1])])
def test_an_affine_that_says_nothing_is_refused(bad):
    header = _header(np.eye(4), (3, 4, 5))
    header.set_sform(bad, 1)
    with pytest.raises(InputError, match="its affine does not say where"):
        grid_of(header)


def test_an_sform_without_an_affine_gives_way_to_the_quaternion_as_in_simpleitk(tmp_path):
    affine = np.diag([-0.5, -2.0, 3.0, 1.0])
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), affine)
    image.set_qform(affine, code=1)
    image.header["sform_code"] = 2
    for row in ("srow_x", "srow_y", "srow_z"):
        image.header[row] = 0
    np.testing.assert_allclose(grid_of(image.header).affine, affine)
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock + bytes(4) + bytes(60))
    read = sitk.ReadImage(str(tmp_path / "a.nii"))
    assert read.GetSpacing() == (0.5, 2.0, 3.0)
    assert read.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    image.header["qform_code"] = 0
    with pytest.raises(InputError, match="singular"):
        grid_of(image.header)


def test_how_far_two_grids_lie_apart():
    one = grid_of(_header(np.diag([1, 1, 5, 1]), (11, 11, 11)))
    moved = np.diag([1.0, 1, 5, 1])
    moved[2, 3] = 2
    assert farthest_apart(one, grid_of(_header(moved, (11, 11, 11)))) == pytest.approx(2)
    assert farthest_apart(one, grid_of(_header(np.diag([1.01, 1, 5, 1]), (11, 11, 11)))) == pytest.approx(0.1, rel=1e-4)
    assert farthest_apart(one, one) == 0

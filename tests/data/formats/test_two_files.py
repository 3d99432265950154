"""Pairs of NIfTI and Analyze: nibabel's own reading is the reference."""

import nibabel
import numpy as np
import pytest

from unet_jax.data.formats import nifti_file
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.sources import Settings
from unet_jax.data.formats.unlabelled import image_reader
from unet_jax.errors import InputError
from unet_jax.inference.writers import volume_masks

AFFINE = np.array([[-1.5, 0, 0, 15], [0, 2, 0.1, -20], [0, 0, 3, 7], [0, 0, 0, 1]])
SCAN = np.random.default_rng(0).integers(0, 1000, (4, 5, 6)).astype(np.int16)
KINDS = {"nifti": nibabel.Nifti1Pair, "analyze": nibabel.AnalyzeImage}


@pytest.fixture(params=KINDS)
def pair(request, tmp_path):
    # Analyze has sizes of voxels and no other geometry.
    affine = AFFINE if request.param == "nifti" else None
    image = KINDS[request.param](SCAN, affine)
    image.header.set_zooms((1.5, 2, 3))
    nibabel.save(image, tmp_path / "case.img")
    return tmp_path


@pytest.mark.parametrize("name", ["case.hdr", "case.img"])
def test_either_half_names_the_scan(pair, name):
    made, root = image_reader(pair / name, Settings(intensity="range"))
    [files] = made.find(root)
    case = made.decode(files, lambda path: read_file(root, path))
    expected = nibabel.load(pair / "case.img")
    turned = expected.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(expected.affine), nibabel.orientations.axcodes2ornt("LPS")
        )
    )
    np.testing.assert_array_equal(case.image[..., 0], turned.get_fdata().transpose(2, 1, 0))
    assert case.spacing == pytest.approx((3, 2, 1.5), rel=2e-3)


def test_a_folder_has_the_scan_once(pair):
    made, root = image_reader(pair, Settings())
    assert [files.name for files in made.find(root)] == ["case"]


def test_a_mask_is_a_pair_with_the_scans_geometry_to_the_bit(pair):
    made, root = image_reader(pair, Settings())
    [files] = made.find(root)
    mask = np.random.default_rng(1).integers(0, 2, (6, 5, 4), np.uint8)
    probability = np.random.default_rng(1).random((6, 5, 4), np.float32)
    encoded = dict(volume_masks.encode(files, root, mask, probability))
    assert list(encoded) == volume_masks.plan(files, True)
    assert {path.suffix for path in encoded} == {".hdr", ".img"}
    for path, data in encoded.items():
        (pair / path.name).write_bytes(data)
    whole = nibabel.load(pair / "case.img")
    for name, expected in (("case_mask.img", mask), ("case_probability.img", probability)):
        found = nibabel.load(pair / name)
        assert type(found) is type(whole)
        np.testing.assert_array_equal(found.affine, whole.affine)
        _, grid = nifti_file.decode(read_file(pair, files.images[0]), "case.hdr")
        np.testing.assert_array_equal(np.asarray(found.dataobj), grid.to_file(expected))


def test_half_a_pair_is_named(pair):
    (pair / "case.img").unlink()
    with pytest.raises(InputError, match=r"case\.img: cannot be read"):
        read_file(pair, (pair / "case.hdr").relative_to(pair))
    (pair / "case.img").write_bytes(bytes(10))
    (pair / "case.hdr").write_bytes(bytes(10))
    with pytest.raises(InputError, match=r"case\.hdr: the header is damaged \(it has 10 bytes\)"):
        read_file(pair, (pair / "case.hdr").relative_to(pair))


def test_random_damage_is_always_answered_by_an_input_error(pair):
    whole = read_file(pair, (pair / "case.hdr").relative_to(pair))
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, 352, rng.integers(1, 4)):
            data[at] ^= 1 << rng.integers(8)
        try:
            nifti_file.decode(bytes(data[: rng.integers(len(data)) if rng.random() < 0.3 else None]), "a.hdr")
        except InputError:
            refused += 1
    assert refused > 80

"""NRRD, MetaImage and GIPL: SimpleITK's own reading of what was written is the reference."""

import builtins
import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from unet_jax.data import cache
from unet_jax.data.formats import itk_file, table
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.sources import Settings, reader
from unet_jax.data.formats.unlabelled import image_reader
from unet_jax.errors import InputError
from unet_jax.inference.writers import volume_masks

SUFFIXES = (".nrrd", ".mha", ".mhd", ".gipl")
GEOMETRY = ("GetSize", "GetSpacing", "GetOrigin", "GetDirection")


def image_of(seed, dtype=np.int16, turned=True, components=1):
    rng = np.random.default_rng(seed)
    shape = (*rng.integers(3, 8, 3), *([components] if components > 1 else []))
    array = rng.integers(0, 100, shape).astype(dtype)
    image = sitk.GetImageFromArray(array, isVector=components > 1)
    image.SetSpacing(rng.uniform(0.3, 6, 3))
    image.SetOrigin(rng.normal(0, 100, 3))
    if turned:
        image.SetDirection(Rotation.random(rng=rng).as_matrix().ravel())
    return image


def written(folder, image, suffix, compress=False, name="case_0000"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{suffix}"
    sitk.WriteImage(image, path, useCompression=compress and suffix != ".gipl")
    return path


def position(image, index):
    """Where a voxel lies, in RAS."""
    return np.array(image.TransformIndexToPhysicalPoint([int(n) for n in index])) * [-1, -1, 1]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_voxels_and_their_places_are_those_of_simpleitk(tmp_path, suffix, compress, seed):
    image = image_of(seed, turned=suffix != ".gipl")
    path = written(tmp_path, image, suffix, compress)
    array, grid = itk_file.decode(read_file(tmp_path, path.relative_to(tmp_path)), path.name)
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image).T)
    assert array.dtype == np.int16
    for index in ((0, 0, 0), np.array(array.shape) - 1):
        # GIPL has sizes as float32.
        np.testing.assert_allclose((grid.affine @ [*index, 1])[:3], position(image, index), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("seed", range(4))
def test_a_mask_lies_where_its_image_does_to_the_bit(tmp_path, suffix, seed):
    image = image_of(seed, np.float32, turned=suffix != ".gipl")
    path = written(tmp_path / "in", image, suffix, compress=True)
    made, root = image_reader(path, Settings())
    [files] = made.find(root)
    case = made.decode(files, lambda path: read_file(root, path))
    rng = np.random.default_rng(seed)
    mask, probability = rng.integers(0, 2, case.image.shape[:3], np.uint8), rng.random(case.image.shape[:3], np.float32)
    names = volume_masks.plan(files, True)
    encoded = dict(volume_masks.encode(files, root, mask, probability))
    assert list(encoded) == names
    back = ".mha" if suffix == ".mhd" else suffix
    assert [name.name for name in names] == [f"case_mask{back}", f"case_probability{back}"]
    whole = sitk.ReadImage(path)
    for name, expected in zip(names, (mask, probability), strict=True):
        (tmp_path / name).write_bytes(encoded[name])
        found = sitk.ReadImage(tmp_path / name)
        assert [getattr(found, of)() for of in GEOMETRY] == [getattr(whole, of)() for of in GEOMETRY]
        again, grid = table.read(encoded[name], name)
        np.testing.assert_array_equal(again[..., 0], expected)
        assert again.dtype == expected.dtype
        assert grid.spacing == case.spacing


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_channels_of_one_file_and_the_mask_of_one_channel(tmp_path, suffix):
    image = image_of(0, components=3)
    path = written(tmp_path, image, suffix)
    array, grid = itk_file.decode(path.read_bytes(), path.name)
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3))
    case, _ = table.read(path.read_bytes(), path)
    mask = np.random.default_rng(0).integers(0, 2, case.shape[:3], np.uint8)
    (tmp_path / f"mask{suffix}").write_bytes(itk_file.encode(mask, grid, suffix)[suffix])
    found, whole = sitk.ReadImage(tmp_path / f"mask{suffix}"), sitk.ReadImage(path)
    assert [getattr(found, of)() for of in GEOMETRY] == [getattr(whole, of)() for of in GEOMETRY]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).T, grid.to_file(mask))


def test_a_fourth_axis_is_channels(tmp_path):
    series = sitk.JoinSeries([image_of(0), image_of(0) + 1000])
    path = written(tmp_path, series, ".mha")
    array, grid = itk_file.decode(path.read_bytes(), path.name)
    assert array.shape[3] == 2
    np.testing.assert_array_equal(array[..., 1], array[..., 0] + 1000)
    mask = np.zeros(table.read(path.read_bytes(), path)[0].shape[:3], np.uint8)
    (tmp_path / "mask.mha").write_bytes(itk_file.encode(mask, grid, ".mha")[".mha"])
    found = sitk.ReadImage(tmp_path / "mask.mha")
    assert found.GetSize() == series.GetSize()[:3]
    np.testing.assert_allclose(found.GetOrigin(), image_of(0).GetOrigin())
    np.testing.assert_allclose(found.GetDirection(), image_of(0).GetDirection())


@pytest.mark.parametrize("last", [False, True])
def test_a_list_axis_of_a_nrrd_is_channels_wherever_it_stands(tmp_path, last):
    """As 3D Slicer writes sequences, with the channels' axis first or last."""
    axes = ["2 3 4", "domain domain domain", "(1,0,0) (0,2,0) (0,0,3)", '"a b" "c" "d"']
    values = np.arange(48, dtype=np.uint8)
    put = [
        f"{one} {new}" if last else f"{new} {one}" for one, new in zip(axes, ("2", "list", "none", '""'), strict=True)
    ]
    header = (
        f"NRRD0004\ntype: uint8\ndimension: 4\nspace: left-posterior-superior\nsizes: {put[0]}\nkinds: {put[1]}\n"
        f"space directions: {put[2]}\nlabels: {put[3]}\nencoding: raw\nspace origin: (5,6,7)\nowner:=anna: b\n\n"
    )
    array, grid = itk_file.decode(header.encode() + values.tobytes(), "a.nrrd")
    expected = (
        values.reshape(2, 3, 4, 2, order="F") if last else np.moveaxis(values.reshape(2, 2, 3, 4, order="F"), 0, 3)
    )
    np.testing.assert_array_equal(array, expected)
    mask = grid.to_case(expected[..., 1])
    (tmp_path / "m.nrrd").write_bytes(itk_file.encode(mask, grid, ".nrrd")[".nrrd"])
    found = sitk.ReadImage(tmp_path / "m.nrrd")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).T, expected[..., 1])
    assert (found.GetSpacing(), found.GetOrigin(), found.GetMetaData("owner")) == ((1, 2, 3), (5, 6, 7), "anna: b")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_picture_of_two_axes_is_one_slice(tmp_path, suffix):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = written(tmp_path, sitk.GetImageFromArray(pixels), suffix)
    case, grid = table.read(path.read_bytes(), path)
    np.testing.assert_array_equal(case[0, ..., 0], pixels)
    (tmp_path / f"m{suffix}").write_bytes(itk_file.encode(case[..., 0], grid, suffix)[suffix])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / f"m{suffix}")), pixels)


def test_training_reads_what_nifti_gives(tmp_path):
    """The same scan as NRRD and as NIfTI: the same case."""
    cases = []
    for suffix in (".nrrd", ".nii.gz"):
        root = tmp_path / suffix[1:]
        image = image_of(1)
        written(root / "imagesTr", image, suffix)
        written(root / "labelsTr", sitk.Cast(image > 50, sitk.sitkUInt8), suffix, name="case")
        description = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 1}, "file_ending": suffix}
        (root / "dataset.json").write_text(json.dumps(description))
        [case], *_ = cache.load(reader(root, "nifti", Settings()), root, tmp_path / "cache")
        cases.append(case)
    one, other = cases
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.mask, other.mask)
    assert one.mask.any()
    assert one.spacing == pytest.approx(other.spacing, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("a.nrrd", b"NRRD0004\ntype: uint8\ndimension: 1\nsizes: 9\ndata file: /etc/passwd\n\n", "lie in another file"),
        ("a.nrrd", b"NRRD0004\ntype: uint8\ndimension: 1\nsizes: 9\ndatafile: b\n\n", "lie in another file"),
        ("a.mha", b"NDims = 1\nDimSize = 9\nElementType = MET_UCHAR\nElementDataFile = /etc/passwd\n", "another file"),
        (
            "a.nrrd",
            b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 9000 9000 9000\nencoding: raw\n\n",
            "up to 536,870,912 are read",
        ),
        (
            "a.nrrd",
            b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 700 700 700\nencoding: gzip\n\nabc",
            "cannot hold them",
        ),
        ("a.nrrd", b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n\nabc", "the file is damaged"),
        (
            "a.mha",
            b"NDims = 3000000000\nDimSize = 9\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
            "other than 2, 3 or 4 axes",
        ),
        (
            "a.mha",
            b"NDims = 3\nDimSize = 700 700 700\nElementType = MET_UCHAR\nElementDataFile = LOCAL\nabc",
            "cannot hold them",
        ),
        (
            "a.mha",
            b"NDims = 2\nDimSize = 2 3\nElementType = MET_UCHAR\nElementDataFile = LOCAL\nabc",
            "holds fewer or more voxels",
        ),
        ("a.nrrd", b"", "is not a NRRD"),
        ("a.mha", b"nothing", "is not a MetaImage"),
        ("a.gipl", b"nothing", "is not a GIPL"),
    ],
)
def test_damaged_and_wrong_files_are_refused_by_name(name, data, complaint):
    with pytest.raises(InputError, match=rf"^{name}: .*{complaint}") as caught:
        itk_file.decode(data, name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_header_leads_to_no_file_but_one_beside_it(tmp_path):
    path = written(tmp_path, image_of(0), ".mhd")
    for place in ("/etc/passwd", "../secret.raw", "LIST", "%d.raw 1 2 1", "a\\b.raw"):
        path.write_text(path.read_text().rpartition("ElementDataFile")[0] + f"ElementDataFile = {place}\n")
        with pytest.raises(InputError, match=r"case_0000\.mhd: its voxels are said to lie in .* save it as \.mha"):
            read_file(tmp_path, path.relative_to(tmp_path))
    path.write_text(path.read_text().rpartition("ElementDataFile")[0] + "ElementDataFile = gone.raw\n")
    with pytest.raises(InputError, match=r"gone\.raw: cannot be read"):
        read_file(tmp_path, path.relative_to(tmp_path))


def test_the_voxels_of_a_pair_of_files_are_part_of_the_fingerprint(tmp_path):
    path = written(tmp_path, image_of(0), ".mhd")
    before = read_file(tmp_path, path.relative_to(tmp_path))
    raw = path.with_suffix(".raw")
    raw.write_bytes(raw.read_bytes()[::-1])
    assert read_file(tmp_path, path.relative_to(tmp_path)) != before


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".gipl"])
def test_random_damage_is_always_answered_by_an_input_error(tmp_path, suffix):
    whole = written(tmp_path, image_of(0, turned=False), suffix, compress=True).read_bytes()
    rng, refused = np.random.default_rng(1), 0
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, min(len(data), 400), rng.integers(1, 4)):
            data[at] ^= 1 << rng.integers(8)
        try:
            itk_file.decode(bytes(data[: rng.integers(len(data)) if rng.random() < 0.3 else None]), f"a{suffix}")
        except InputError:
            refused += 1
    assert refused > 20


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    path = written(tmp_path, image_of(0), ".nrrd")
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "SimpleITK":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"need the package SimpleITK: pip install '\.\[itk\]'"):
        image_reader(path, Settings())


def test_nibabel_reads_what_itk_refuses(tmp_path):
    """An affine without right angles, as of TotalSegmentator's first scan."""
    affine = np.array([[1, 0.1, 0, 5], [0, 1, 0.1, 6], [0, 0, 2.0, 7], [0, 0, 0, 1]])
    scan = np.random.default_rng(0).random((4, 5, 6), np.float32)
    nibabel.save(nibabel.Nifti1Image(scan, affine), tmp_path / "a.nii.gz")
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(tmp_path / "a.nii.gz")
    array, grid = table.format_of(tmp_path / "a.nii.gz")[0].module().decode((tmp_path / "a.nii.gz").read_bytes(), "a")
    np.testing.assert_array_equal(array, scan)
    np.testing.assert_allclose(grid.affine, affine, atol=1e-6)

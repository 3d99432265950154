import gzip
import json
import tracemalloc

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from unet_jax.data import cache
from unet_jax.data import labels as label_maps
from unet_jax.data.formats import nifti, nifti_file, nifti_listing
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.sources import Settings, reader
from unet_jax.data.formats.unlabelled import image_reader
from unet_jax.data.patients import Patients
from unet_jax.errors import InputError
from unet_jax.inference.writers import volume_masks

SHAPE = (6, 7, 4)
AFFINE = np.array([[-1, 0, 0, 30], [0, -1.5, 0, 20], [0, 0, 5, -10], [0, 0, 0, 1]], float)
DESCRIPTION = {
    "channel_names": {"0": "FLAIR", "1": "T1"},
    "labels": {"background": 0, "tumour": 1},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def _save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def _arrays(seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(-5, 900, SHAPE, np.int16) for _ in range(2)], rng.integers(0, 2, SHAPE, np.uint8)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "Dataset001"
    for seed, case in enumerate(("anna", "bert_2")):
        channels, mask = _arrays(seed)
        for number, array in enumerate(channels):
            _save(folder / "imagesTr" / f"{case}_{number:04d}.nii.gz", array)
        _save(folder / "labelsTr" / f"{case}.nii.gz", mask)
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION))
    return folder


def _decode(root, files, labels):
    return nifti.decode(files, lambda path: read_file(root, path), labels)


def _find(root):
    return nifti.find(root, nifti.read_description(root), Patients())


def test_channels_mask_and_spacing_of_each_case(root):
    found = _find(root)
    assert [(files.name, files.patient) for files in found] == [("anna", "anna"), ("bert_2", "bert_2")]
    for seed, files in enumerate(found):
        case = _decode(root, files, {"tumour": (1,)})
        channels, mask = _arrays(seed)
        # By its affine, the file's axes run to the left, to the back and to the head: columns, rows and slices.
        np.testing.assert_array_equal(case.image, np.stack(channels, -1).transpose(2, 1, 0, 3))
        np.testing.assert_array_equal(case.mask, mask.transpose(2, 1, 0))
        assert case.image.dtype == np.float32
        assert case.spacing == pytest.approx((5, 1.5, 1))
        assert case.image.flags.c_contiguous
        assert case.mask.flags.c_contiguous


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL", "IRA", "ASR"])
def test_a_file_of_another_orientation_gives_the_same_case_and_gets_its_mask_back_in_place(tmp_path, orientation):
    [array, _], mask = _arrays(0)
    original = nibabel.Nifti1Image(array, AFFINE)
    start = nibabel.io_orientation(AFFINE)
    turned = original.as_reoriented(
        nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(orientation))
    )
    for name, image in (("original", original), ("turned", turned)):
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    root, found = nifti_listing.find_images(tmp_path)
    one, other = (_decode(root, files, {}) for files in found)
    np.testing.assert_array_equal(one.image, other.image)
    assert one.spacing == pytest.approx(other.spacing)

    predicted = np.ascontiguousarray(mask.transpose(2, 1, 0))
    places = []
    for name in ("original", "turned"):
        data = (tmp_path / f"{name}.nii.gz").read_bytes()
        _, grid = nifti_file.decode(data, f"{name}.nii.gz")
        written = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_file.encode(predicted, grid)[".nii.gz"]))
        like = nibabel.load(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(written.affine, like.affine)
        assert written.header.get_zooms() == like.header.get_zooms()
        assert nibabel.aff2axcodes(written.affine) == nibabel.aff2axcodes(like.affine)
        assert written.shape == like.shape
        assert written.get_data_dtype() == np.uint8
        voxels = np.argwhere(np.asarray(written.dataobj) == 1)
        places.append(nibabel.affines.apply_affine(written.affine, voxels))
    np.testing.assert_allclose(*(place[np.lexsort(place.round(3).T)] for place in places), atol=1e-4)


def test_cases_in_the_files_own_axes_are_simpleitks_and_so_are_their_masks(root, tmp_path):
    """As nnU-Net sees them; what is predicted is written where it belongs."""
    plain = reader(root, "nifti", Settings(intensity="range"))
    of_file = reader(root, "nifti", Settings(intensity="range", axes="file"))
    assert plain.DECODING in of_file.DECODING
    assert "axes" not in plain.DECODING
    files = of_file.find(root)[0]
    case = of_file.decode(files, lambda path: read_file(root, path))
    read = sitk.ReadImage(str(root / files.images[0]))
    np.testing.assert_array_equal(case.image[..., 0], sitk.GetArrayFromImage(read))
    np.testing.assert_array_equal(case.mask, sitk.GetArrayFromImage(sitk.ReadImage(str(root / files.masks[0]))))
    assert case.spacing == pytest.approx(read.GetSpacing()[::-1])

    scan = nibabel.load(root / files.images[0]).as_reoriented([[1, -1], [2, 1], [0, -1]])
    nibabel.save(scan, tmp_path / "scan.nii.gz")
    predicting, folder = image_reader(tmp_path / "scan.nii.gz", Settings(intensity="range", axes="file"))
    [files] = predicting.find(folder)
    case = predicting.decode(files, lambda path: read_file(folder, path))
    mask = (case.image[..., 0] > np.median(case.image)).astype(np.uint8)
    [(path, data)] = volume_masks.encode(files, folder, mask, None, axes="file")
    (tmp_path / path).write_bytes(data)
    written = nibabel.load(tmp_path / path)
    np.testing.assert_array_equal(written.get_fdata(), scan.get_fdata() > np.median(scan.get_fdata()))
    np.testing.assert_array_equal(written.affine, scan.affine)


def test_axes_that_there_are_not_are_refused(root):
    for make in (lambda settings: reader(root, "nifti", settings), lambda settings: image_reader(root, settings)):
        with pytest.raises(InputError, match=r"config\.data\.axes is 'lps'; it must be one of patient, file, ras"):
            make(Settings(axes="lps"))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_written_header_keeps_everything_but_type_and_scale(kind):
    image = kind(_arrays(0)[0][0], None)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE @ np.diag([1.01, 1, 1, 1]), 4)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(2, -7)
    image.header["descrip"] = b"scanner"
    data = image.to_bytes()
    array, grid = nifti_file.decode(data, "a.nii")
    assert array.dtype == np.float32
    mask = np.ones(grid.to_case(array).shape, np.uint8)
    written = kind.from_bytes(nifti_file.encode(mask, grid, ".nii")[".nii"])
    like = kind.from_bytes(data).header
    changed = {
        key for key in like if not np.array_equal(like[key], written.header[key], equal_nan=like[key].dtype.kind == "f")
    }
    assert changed <= {"datatype", "bitpix", "scl_slope", "scl_inter"}
    assert nifti_file.encode(mask, grid) == nifti_file.encode(mask, grid)
    back, _ = nifti_file.decode(nifti_file.encode(mask, grid)[".nii.gz"], "b.nii.gz")
    np.testing.assert_array_equal(grid.to_case(back), mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2", ">f4"])
def test_types_byte_orders_and_scales(dtype):
    array = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    header = nibabel.Nifti1Header(endianness=np.dtype(dtype).str[0].replace("|", "<"))
    header.set_data_dtype(dtype)
    header.set_slope_inter(0.5, 3)
    data = nibabel.Nifti1Image(array, np.eye(4), header).to_bytes()
    expected = np.asarray(nibabel.Nifti1Image.from_bytes(data).dataobj)
    for packed in (data, gzip.compress(data), gzip.compress(data[:400]) + gzip.compress(data[400:])):
        found, _ = nifti_file.decode(packed, "a.nii.gz")
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def _claiming(shape, dtype=np.uint8):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    return header.binaryblock + bytes(4)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("shape", "complaint"),
    [((1000, 1000, 1000), "up to"), ((32767, 32767, 32767), "up to"), ((700, 700, 700), "cannot hold them")],
)
def test_a_bomb_is_refused_before_it_is_unpacked(pack, shape, complaint):
    bomb = pack(_claiming(shape))
    with pytest.raises(InputError, match=rf"^bomb\.nii\.gz: claims .*{complaint}"):
        nifti_file.decode(bomb, "bomb.nii.gz")


def test_no_more_is_unpacked_than_the_header_claims():
    packed = gzip.compress(_claiming((2, 2, 2)) + bytes(2**27), 1)
    tracemalloc.start()
    with pytest.raises(InputError, match="holds fewer or more voxels than its header says"):
        nifti_file.decode(packed, "a.nii.gz")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", r"is not a NIfTI file \(its first bytes are b''"),
        (b"PK\3\4" + bytes(600), "is not a NIfTI file"),
        (gzip.compress(b"text", mtime=0), "is not a NIfTI file"),
        (_claiming((2, 3, 4))[:300], "is not a NIfTI file"),
        (_claiming((2, 3, 4)) + bytes(23), "holds fewer or more"),
        (gzip.compress(_claiming((2, 3, 4)) + bytes(24))[:-9], "the file is damaged"),
        (gzip.compress(_claiming((2, 3, 4)) + bytes(24))[:-8] + bytes(8), "the file is damaged .CRC"),
        (_claiming((2, 3, 4), np.complex64) + bytes(24 * 8), "has voxels of complex64"),
        (_claiming((2, 3, 4, 2), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])) + bytes(144), "has voxels of"),
        (_claiming((2, 3, 4, 2, 2)) + bytes(96), "where 3 axes are needed"),
        (_claiming((2, 0, 4)), "has no voxel"),
    ],
    ids=range(11),
)
def test_damaged_and_wrong_files_are_refused_by_name(data, complaint):
    with pytest.raises(InputError, match=rf"^a\.nii\.gz: .*{complaint}"):
        nifti_file.decode(data, "a.nii.gz")


def test_random_damage_is_always_answered_by_an_input_error():
    rng = np.random.default_rng(0)
    whole = nibabel.Nifti1Image(_arrays(0)[0][0], AFFINE).to_bytes()
    refused = []
    for original in (whole, gzip.compress(whole, mtime=0)) * 400:
        data = bytearray(original)
        for position in rng.integers(0, min(len(data), 360), rng.integers(1, 4)):
            data[position] = rng.integers(256)
        try:
            nifti_file.decode(bytes(data[: rng.integers(len(data)) if rng.random() < 0.2 else None]), "a.nii.gz")
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 400
    assert all(text.startswith("a.nii.gz: ") and "\n" not in text for text in refused)


def test_every_fault_is_listed_at_once(root, tmp_path):
    for name in "abcdefgh":
        for number in range(2):
            _save(root / "imagesTr" / f"{name}_{number:04d}.nii.gz", _arrays(0)[0][number])
        _save(root / "labelsTr" / f"{name}.nii.gz", _arrays(0)[1])
    (root / "imagesTr" / "a_0001.nii.gz").unlink()
    (root / "labelsTr" / "b.nii.gz").unlink()
    (root / "imagesTr" / "c_0000.nii.gz").unlink()
    (root / "imagesTr" / "c_0001.nii.gz").unlink()
    _save(root / "imagesTr" / "d.nii.gz", _arrays(0)[0][0])
    _save(root / "imagesTr" / "e_0001.nii.gz", np.zeros((6, 7, 5), np.int16))
    moved = AFFINE.copy()
    moved[2, 3] += 5
    _save(root / "labelsTr" / "f.nii.gz", _arrays(0)[1], moved)
    _save(root / "labelsTr" / "g.nii.gz", _arrays(0)[1] * np.uint8(3))
    _save(root / "imagesTr" / "h_0000.nii.gz", np.full(SHAPE, np.nan, np.float32))
    (root / "imagesTr" / "h_0001.nii.gz").write_bytes(b"")
    made = reader(root, "nifti", Settings())
    with pytest.raises(InputError) as caught:
        cache.load(made, root, tmp_path / "cache")
    lines = str(caught.value).splitlines()
    expected = [
        "imagesTr/a: has the channels 0000, and 0000, 0001 are needed",
        "labelsTr/b.nii.gz: is missing",
        "labelsTr/c.nii.gz: this mask has no image",
        "imagesTr/d.nii.gz: is not named <case>_<four digits",
        "imagesTr/e_0001.nii.gz: is 6 x 7 x 5 voxels and imagesTr/e_0000.nii.gz 6 x 7 x 4",
        "labelsTr/f.nii.gz: its affine puts it up to 5.0 voxels away from imagesTr/f_0000.nii.gz",
        "labelsTr/g.nii.gz: the mask has the values 3 beside 0 and 1",
        "imagesTr/h_0001.nii.gz: is not a NIfTI file",
        "dataset.json: says numTraining 2, and imagesTr holds 9 cases",
    ]
    for start in expected:
        assert [line for line in lines if line.startswith(start)], (start, lines)
    assert len(lines) == len(expected)


def test_nan_is_named(root, tmp_path):
    _save(root / "imagesTr" / "anna_0000.nii.gz", np.full(SHAPE, np.nan, np.float32))
    made = reader(root, "nifti", Settings())
    with pytest.raises(InputError, match=r"^anna: 168 pixels of the image are NaN"):
        cache.load(made, root, tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"file_ending": ".mgz"}, r"file_ending is '\.mgz'; it must be one of \.nii, \.nii\.gz"),
        ({"labels": {"background": 0, "tumour": "one"}}, "is not a description of a data set"),
        ({"labels": {"background": 0}}, "has 0 classes"),
        ({"labels": {"background": 0, "tumour": 1, "ignore": 1}}, "1 is both background or ignore and something else"),
        ({"channel_names": {"1": "T1"}}, "is not a description of a data set"),
        ({"channel_names": ["T1"]}, "is not a description of a data set"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(root, change, complaint):
    (root / "dataset.json").write_text(json.dumps(DESCRIPTION | change))
    with pytest.raises(InputError, match=complaint):
        nifti.read_description(root)


def test_what_a_description_ignores_is_no_class(root):
    labels = {"labels": {"background": 0, "ignore": 3, "edema": 1, "core": 2}}
    (root / "dataset.json").write_text(json.dumps(DESCRIPTION | labels))
    found = nifti.read_description(root).labels
    assert found == {"edema": (1,), "core": (2,), "ignore": (3,)}
    assert label_maps.to_classes(np.array([0, 1, 2, 3]), found).tolist() == [0, 1, 2, label_maps.IGNORED]


def test_a_description_of_the_first_version_says_the_same(root):
    first = {"modality": {"0": "FLAIR"}, "labels": {"0": "background", "2": "core", "1": "edema"}, "numTraining": 2}
    (root / "dataset.json").write_text(json.dumps(first))
    found = nifti.read_description(root)
    assert found == nifti.Description(("FLAIR",), {"edema": (1,), "core": (2,)}, ".nii.gz", 2)
    assert list(found.labels) == ["edema", "core"]


def test_a_missing_description_or_folder_is_named(root):
    (root / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"dataset\.json: cannot be read \(No such file"):
        nifti.read_description(root)
    with pytest.raises(InputError, match="imagesTr: there is no such folder"):
        nifti.find(root / "labelsTr", nifti.Description(("a",), {"tumour": (1,)}, ".nii.gz", None), Patients())


def test_the_cache_gives_normalised_volumes_and_follows_the_description(root, tmp_path):
    fingerprints = set()
    for labels in (None, "tumour=1", "lesion=1+2"):
        made = reader(root, "nifti", Settings(labels=labels))
        cases, fingerprint, _ = cache.load(made, root, tmp_path / "cache")
        fingerprints.add(fingerprint)
    assert len(fingerprints) == 2
    for case in cases:
        assert (case.image.min(), case.image.max()) == (0, 1)
    made = reader(root, "nifti", Settings(intensity="range"))
    [case, _], _, _ = cache.load(made, root, tmp_path / "cache")
    np.testing.assert_array_equal(case.image, np.stack(_arrays(0)[0], -1).transpose(2, 1, 0, 3))


def test_for_prediction_a_file_a_folder_and_a_training_set_can_be_named(root, tmp_path):
    _save(tmp_path / "single.nii", _arrays(0)[0][0])
    for path, names, channels in (
        (root, ["anna", "bert_2"], 2),
        (root / "imagesTr", ["anna", "bert_2"], 2),
        (root / "imagesTr" / "anna_0001.nii.gz", ["anna"], 2),
        (tmp_path / "single.nii", ["single"], 1),
    ):
        made, base = image_reader(path, Settings())
        found = made.find(base)
        assert [files.name for files in found] == names
        case = made.decode(found[0], lambda path, base=base: read_file(base, path))
        assert case.mask is None
        assert case.image.shape == (4, 7, 6, channels)
    (root / "imagesTr" / "anna_0000.nii.gz").unlink()
    _, [anna, _] = nifti_listing.find_images(root / "imagesTr")
    assert anna.faults == ("anna: has the channels 1, and one before or between them is missing: restore it.",)


def _faults(root):
    return [str(fault) for files in _find(root) for fault in files.faults]


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (
            ("imagesTr/anna_0000.nii.gz", "imagesTr/anna_0000.nii", "copy"),
            "imagesTr/anna_0000.nii: is called as imagesTr/anna_0000.nii.gz is, and could be meant as well: remove "
            "one of "
            "them.",
        ),
        (
            ("imagesTr/anna_0000.nii.gz", "imagesTr/carl_0000.nii", "copy"),
            "imagesTr/carl_0000.nii: does not end in .nii.gz, as dataset.json says of all files: convert or remove it.",
        ),
        (
            ("imagesTr/anna_0000.nii.gz", "imagesTr/ANNA_0000.NII.GZ", "copy"),
            "imagesTr/ANNA: has the channels 0000, and 0000, 0001 are needed by dataset.json.",
        ),
        (
            ("imagesTr/anna_0000.nii.gz", "imagesTr/more/carl_0000.nii.gz", "copy"),
            "imagesTr/more/carl_0000.nii.gz: lies deeper than nnU-Net's layout has it: move it to imagesTr, or out "
            "of it.",
        ),
        (
            ("labelsTr/anna.nii.gz", "labelsTr/anna_0000.nii.gz", "move"),
            "labelsTr/anna.nii.gz: is missing, and its image is there; labelsTr/anna_0000.nii.gz may be it: rename it.",
        ),
        (
            ("labelsTr/anna.nii.gz", "labelsTr/Anna.nii.gz", "move"),
            "labelsTr/anna.nii.gz: is missing, and its image is there; labelsTr/Anna.nii.gz may be it: rename it.",
        ),
        (
            ("labelsTr/anna.nii.gz", "labelsTr/anna.mrk", "move"),
            "labelsTr/anna.nii.gz: is missing, and its image is there; labelsTr/anna.mrk is of a kind that is not "
            "read as "
            "a mask: convert it.",
        ),
    ],
)
def test_a_near_miss_is_named(root, spoil, line):
    old, new, how = spoil
    (root / new).parent.mkdir(exist_ok=True)
    data = (root / old).read_bytes()
    (root / new).write_bytes(data)
    if how == "move":
        (root / old).unlink()
    assert line in _faults(root)


def test_a_case_called_by_four_digits_is_one_line(root):
    for folder, old, new in (
        ("imagesTr", "anna_0000", "anna_0007"),
        ("labelsTr", "anna", "anna_0007"),
    ):
        (root / folder / f"{old}.nii.gz").rename(root / folder / f"{new}.nii.gz")
    (root / "imagesTr" / "anna_0001.nii.gz").unlink()
    assert _faults(root) == [
        "imagesTr/anna_0007.nii.gz: can be read as channel 7 of anna, or as the case anna_0007, whose mask is "
        "labelsTr/anna_0007.nii.gz: then name it anna_0007_0000.nii.gz."
    ]


def test_capital_letters_in_folders_and_endings_are_read_as_small_ones(root):
    for folder in ("imagesTr", "labelsTr"):
        for path in list((root / folder).iterdir()):
            path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
        (root / folder).rename(root / folder.upper())
    found = _find(root)
    assert [(files.name, len(files.images), files.faults) for files in found] == [("anna", 2, ()), ("bert_2", 2, ())]
    assert _decode(root, found[0], {"tumour": (1,)}).image.shape[-1] == 2


def _scans(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("names", "channels", "cases"),
    [
        (["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"], 2, {"a": 2, "b": 2}),
        (["a_0000.nii.gz", "a_0001.nii.gz"], None, {"a": 2}),
        (["a_0000.nii.gz", "b.nii.gz"], 1, {"a": 1, "b": 1}),
        (["x/CASE_0000.NII.GZ", "y/case.nii"], 1, {"x/CASE": 1, "y/case": 1}),
        (["imagesTs/a_0000.nii.gz", "labelsTs/a.nii.gz"], 1, {"imagesTs/a": 1}),
        (["p1/p1_flair.nii.gz", "p1/p1_seg.nii.gz"], 1, {"p1/p1_flair": 1}),
        (["anna_mask.nii.gz", "bert_seg.nii.gz"], 1, {"anna_mask": 1, "bert_seg": 1}),
    ],
)
def test_what_is_predicted_on_is_found_at_any_depth(tmp_path, names, channels, cases):
    _scans(tmp_path, *names)
    base, found = nifti_listing.find_images(tmp_path, channels)
    assert base == tmp_path
    assert {files.name: len(files.images) for files in found} == cases
    assert not any(files.faults for files in found)


@pytest.mark.parametrize(
    ("names", "channels", "line"),
    [
        (
            ["scan_0001.nii.gz", "scan_0002.nii.gz"],
            1,
            "scan: scan_0001.nii.gz, scan_0002.nii.gz can be read as the channels 1, 2 of this case, and one before or "
            "between them is missing; or as a case each, which are then named <case>_0000.nii.gz: rename them.",
        ),
        (
            ["scan_0000.nii.gz", "scan_0001.nii.gz"],
            1,
            "scan: scan_0000.nii.gz, scan_0001.nii.gz can be read as the channels 0, 1 of this case, and the network "
            "takes "
            "1 of them; or as a case each, which are then named <case>_0000.nii.gz: rename them.",
        ),
        (
            ["scan_0000.nii.gz", "scan_0001.nii.gz", "scan_0002.nii.gz", "scan_0003.nii.gz"],
            2,
            "scan: scan_0000.nii.gz, scan_0001.nii.gz, scan_0002.nii.gz, … can be read as the channels 0, 1, 2, 3 of "
            "this "
            "case, and the network takes 2 of them; or as a case each, which are then named <case>_0000.nii.gz: rename "
            "them.",
        ),
        (
            ["a.nii", "a.nii.gz"],
            1,
            "a.nii.gz: can be read as channel 0 of a, and so can a.nii: rename or remove one of them.",
        ),
        (
            ["a.nii.gz", "a_0000.nii.gz"],
            1,
            "a_0000.nii.gz: can be read as channel 0 of a, and so can a.nii.gz: rename or remove one of them.",
        ),
        (
            ["imagesTs/a_0001.nii.gz"],
            2,
            "imagesTs/a: has the channels 1, and one before or between them is missing: restore it.",
        ),
    ],
)
def test_a_name_that_can_be_read_two_ways_is_refused_by_both(tmp_path, names, channels, line):
    _scans(tmp_path, *names)
    _, found = nifti_listing.find_images(tmp_path, channels)
    assert [fault for files in found for fault in files.faults] == [line]


def test_a_file_that_is_named_is_a_case_for_a_network_of_one_channel(tmp_path):
    _scans(tmp_path, "scan_0001.nii.gz", "scan_0002.nii.gz", "b_0000.nii.gz")
    for path, name in (("scan_0001.nii.gz", "scan_0001"), ("b_0000.nii.gz", "b")):
        _, [files] = nifti_listing.find_images(tmp_path / path, 1)
        assert (files.name, [image.name for image in files.images], files.faults) == (name, [path], ())
    _, [files] = nifti_listing.find_images(tmp_path / "scan_0002.nii.gz", 2)
    assert files.faults


def _predicted(path, channels=None):
    made, root = image_reader(path, Settings(intensity="range"), channels)
    [files] = made.find(root)
    return files, root, made.decode(files, lambda path: read_file(root, path))


def test_a_picture_of_two_axes_comes_back_as_one(tmp_path):
    pixels = np.random.default_rng(0).random((4, 5), np.float32)
    nibabel.save(nibabel.Nifti1Image(pixels, np.diag([-1.0, 1, 5, 1])), tmp_path / "CASE.NII.GZ")
    files, root, case = _predicted(tmp_path)
    # Rows count to the back, columns to the patient's left.
    np.testing.assert_array_equal(case.image[0, ..., 0], pixels.T[::-1])
    mask = np.random.default_rng(1).integers(0, 2, (1, 5, 4), np.uint8)
    [(path, data)] = volume_masks.encode(files, root, mask, None)
    assert path.name == "CASE_mask.nii.gz"
    found = nibabel.Nifti1Image.from_bytes(gzip.decompress(data))
    np.testing.assert_array_equal(np.asarray(found.dataobj), mask[0, ::-1].T)
    np.testing.assert_array_equal(found.affine, nibabel.load(tmp_path / "CASE.NII.GZ").affine)


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (3, 4, 5, 1, 2)])
def test_a_fourth_axis_is_channels_and_a_mask_has_none(tmp_path, shape):
    scan = np.random.default_rng(0).random(shape, np.float32)
    nibabel.save(nibabel.Nifti1Image(scan, np.diag([-1.0, -1, 5, 1])), tmp_path / "case_0000.nii")
    files, root, case = _predicted(tmp_path, 2)
    np.testing.assert_array_equal(case.image, scan.reshape(3, 4, 5, 2).transpose(2, 1, 0, 3))
    [(_, data)] = volume_masks.encode(files, root, np.ones((5, 4, 3), np.uint8), None)
    assert nibabel.Nifti1Image.from_bytes(data).shape == (3, 4, 5)


def test_colours_are_channels(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    voxels = colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1, 5, 1])), tmp_path / "a.nii")
    np.testing.assert_array_equal(_predicted(tmp_path)[2].image, colours.transpose(2, 1, 0, 3))


@pytest.mark.parametrize("there", [1, 2])
def test_one_file_may_hold_all_channels_of_a_case_to_train_on(tmp_path, there):
    scan = np.random.default_rng(0).random((3, 4, 5, there), np.float32)
    for folder, name, array in (("imagesTr", "a_0000", scan), ("labelsTr", "a", (scan[..., 0] > 0.5).astype(np.uint8))):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1, 5, 1])), tmp_path / folder / f"{name}.nii.gz")
    description = {"channel_names": {"0": "A", "1": "B"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    made = reader(tmp_path, "nifti", Settings(intensity="range"))
    [files] = made.find(tmp_path)
    if there == 1:
        with pytest.raises(InputError, match=r"imagesTr/a: has the channels 0000, and 0000, 0001 are needed by"):
            made.decode(files, lambda path: read_file(tmp_path, path))
    else:
        case = made.decode(files, lambda path: read_file(tmp_path, path))
        np.testing.assert_array_equal(case.image, scan.transpose(2, 1, 0, 3))


def test_a_quaternion_longer_than_1_is_read_as_simpleitk_reads_it(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), None)
    image.header.set_qform(np.diag([1.0, 2, 3, 1]), 1)
    for name, value in (("quatern_b", 0.9), ("quatern_c", 0.5), ("quatern_d", 0.1)):
        image.header[name] = value
    header = image.header.copy()
    header["vox_offset"] = 352
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(4) + bytes(120))
    found = sitk.ReadImage(tmp_path / "a.nii")
    _, grid = nifti_file.decode((tmp_path / "a.nii").read_bytes(), "a.nii")
    to_ras = np.diag([-1, -1, 1]) @ np.reshape(found.GetDirection(), (3, 3)) * found.GetSpacing()
    np.testing.assert_allclose(grid.affine[:3, :3], to_ras, atol=1e-5)
    assert nifti_file.encode(np.zeros(grid.to_case(np.zeros(grid.shape)).shape, np.uint8), grid, ".nii")

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import OTHER_SERIES, SERIES, make_slice, write_series
from pydicom.uid import RLELossless

from unet_jax.data.formats import dicom, dicom_listing
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.sources import Settings
from unet_jax.data.formats.unlabelled import image_reader
from unet_jax.errors import InputError


def _decode(path):
    root, [files] = dicom_listing.find(path)
    return dicom.decode(files, lambda path: read_file(root, path))


def _faults(path):
    with pytest.raises(InputError) as caught:
        _decode(path)
    return str(caught.value).splitlines()


def test_slices_come_by_position_whatever_their_names_and_numbers(tmp_path):
    order = [3, 0, 4, 1, 2]
    write_series(tmp_path / "scan", [make_slice(number) for number in order], "IM{}")
    (tmp_path / "scan" / "DICOMDIR").write_bytes(b"")
    (tmp_path / "scan" / "notes.txt").write_text("")
    case = _decode(tmp_path / "scan")
    assert case.image[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert case.image.shape == (5, 8, 9, 1)
    assert case.image.dtype == np.float32
    assert (case.name, case.patient, case.mask, case.spacing) == ("scan", "anna", None, (4, 0.5, 0.75))
    root, [files] = dicom_listing.find(tmp_path / "scan")
    series = dicom.read_series(files, lambda path: read_file(root, path))
    assert [dataset.filename for dataset, _ in series] == [f"IM{order.index(number)}" for number in range(5)]


@pytest.mark.parametrize("seed", range(4))
def test_position_is_taken_along_the_normal_of_tilted_slices(tmp_path, seed):
    rng = np.random.default_rng(seed)
    across, normal = np.linalg.qr(rng.normal(size=(3, 3)))[0][:, :2], None
    normal = np.cross(*across.T)
    places = rng.permutation(6)
    datasets = [
        make_slice(
            number,
            ImageOrientationPatient=[float(f"{x:.8f}") for x in across.T.ravel()],
            # Shifted within its plane as well, by more than the gap: the coordinates alone are in no order.
            ImagePositionPatient=[float(f"{x:.8f}") for x in 2.5 * number * normal + across @ rng.normal(size=2) * 40],
        )
        for number in places
    ]
    write_series(tmp_path / "scan", datasets)
    case = _decode(tmp_path / "scan")
    assert case.image[:, 0, 0, 0].tolist() == list(range(6))
    assert case.spacing == pytest.approx((2.5, 0.5, 0.75), rel=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_slope_and_intercept_of_each_slice(tmp_path, dtype):
    pixels = np.random.default_rng(0).integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (2, 8, 10), dtype)
    rescaled = [{"RescaleSlope": 2, "RescaleIntercept": -1024}, {"RescaleSlope": 0.5, "RescaleIntercept": 7}]
    write_series(tmp_path / "scan", [make_slice(n, pixels[n], **rescaled[n]) for n in range(2)])
    found = _decode(tmp_path / "scan").image[..., 0]
    np.testing.assert_array_equal(found[0], 2.0 * pixels[0] - 1024)
    np.testing.assert_array_equal(found[1], 0.5 * pixels[1] + 7)


def test_a_compressed_slice_is_the_same(tmp_path):
    pixels = np.arange(72, dtype=np.uint16).reshape(8, 9)
    packed = make_slice(0, pixels)
    packed.compress(RLELossless)
    write_series(tmp_path / "scan", [packed])
    np.testing.assert_array_equal(_decode(tmp_path / "scan").image[0, ..., 0], pixels)


def test_one_file_and_folders_of_series(tmp_path):
    for name in ("b", "a/x"):
        write_series(tmp_path / name, [make_slice(n) for n in range(2)])
    _, found = dicom_listing.find(tmp_path)
    assert [(files.name, len(files.images)) for files in found] == [("a/x", 2), ("b", 2)]
    case = _decode(tmp_path / "b" / "1.dcm")
    assert (case.name, case.image.shape, case.spacing) == ("1", (1, 8, 9, 1), None)
    write_series(tmp_path / "c", [make_slice(0, SliceThickness=3, ImagePositionPatient=None)])
    assert _decode(tmp_path / "c").spacing == (3, 0.5, 0.75)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no DICOM file"):
        dicom_listing.find(tmp_path / "empty")


def test_the_reader_for_prediction_normalises_the_series(tmp_path):
    write_series(tmp_path / "scan", [make_slice(number) for number in range(11)], "IM{}")
    made, root = image_reader(tmp_path / "scan", Settings())
    [files] = made.find(root)
    image = made.decode(files, lambda path: read_file(root, path)).image
    np.testing.assert_allclose(image[[0, 10], 0, 0, 0], [0, 1], atol=1e-6)
    assert (np.diff(image[:, 0, 0, 0]) >= 0).all()


def test_mixed_series_are_named(tmp_path):
    others = [make_slice(n, SeriesInstanceUID=OTHER_SERIES, SeriesDescription="AX T1") for n in range(2)]
    write_series(tmp_path / "scan", [*(make_slice(n) for n in range(3)), *others])
    assert _faults(tmp_path / "scan") == [
        f"scan: holds 2 series, and one a folder is needed: AX FLAIR (3 files, {SERIES}); AX T1 (2 files, "
        f"{OTHER_SERIES}): put each in its own."
    ]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"ImagePositionPatient": None}, ["1.dcm: has no Image Position or no Image Orientation"]),
        ({"ImageOrientationPatient": None}, ["1.dcm: has no Image Position or no Image Orientation"]),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, ["1.dcm: has no Image Position or no Image Orientation"]),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, ["1.dcm: is tilted against 0.dcm"]),
        (
            {"ImagePositionPatient": [0, 0, 0]},
            ["0.dcm and 1.dcm: lie at the same place", "1.dcm and 2.dcm: lie 8.00 mm"],
        ),
        ({"PixelSpacing": [1, 1]}, ["1.dcm: has 8x9 pixels of 1 x 1 mm, and 0.dcm 8x9 pixels of 0.5 x 0.75 mm"]),
        ({"NumberOfFrames": 12}, ["1.dcm: holds 12 frames"]),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, ["1.dcm: is PALETTE COLOR, where grey"]),
        ({"PixelData": None}, ["1.dcm: holds no picture (MR)"]),
        ({"PixelData": bytes(10)}, ["1.dcm: is damaged, not a DICOM file, or compressed"]),
        ({"Rows": 0}, ["1.dcm: the image has no pixel (0x9)"]),
        ({"Rows": 60000, "Columns": 60000}, ["1.dcm: claims 60000x60000 pixels"]),
    ],
)
def test_what_is_wrong_with_a_slice_is_named(tmp_path, elements, expected):
    write_series(tmp_path / "scan", [make_slice(0), make_slice(1, **elements), *(make_slice(n) for n in range(2, 6))])
    found = _faults(tmp_path / "scan")
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def test_a_missing_slice_is_named(tmp_path):
    write_series(tmp_path / "scan", [make_slice(n) for n in (0, 1, 2, 4, 5)])
    [fault] = _faults(tmp_path / "scan")
    assert fault.startswith("2.dcm and 3.dcm: lie 8.00 mm apart, and the slices of scan usually 4.00 mm")


def test_damaged_files_are_all_listed(tmp_path):
    write_series(tmp_path / "scan", [make_slice(n) for n in range(5)])
    whole = (tmp_path / "scan" / "0.dcm").read_bytes()
    (tmp_path / "scan" / "0.dcm").write_bytes(b"")
    (tmp_path / "scan" / "1.dcm").write_bytes(b"no DICOM at all" * 20)
    (tmp_path / "scan" / "2.dcm").write_bytes(whole[:-20])
    (tmp_path / "scan" / "3.dcm").write_bytes(whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"))
    found = _faults(tmp_path / "scan")
    assert [line.split(":")[0] for line in found] == ["0.dcm", "1.dcm", "2.dcm", "3.dcm"]
    assert "compressed as a whole" in found[3]


def test_random_damage_is_always_answered_by_an_input_error(tmp_path):
    write_series(tmp_path, [make_slice(0)])
    whole = (tmp_path / "0.dcm").read_bytes()
    rng = np.random.default_rng(0)
    [files] = dicom_listing.find(tmp_path / "0.dcm")[1]
    refused = []
    for _ in range(300):
        data = bytearray(whole)
        for position in rng.integers(128, len(data), rng.integers(1, 6)):
            data[position] = rng.integers(256)
        data = bytes(data[: rng.integers(len(data)) if rng.random() < 0.2 else None])
        try:
            dicom.decode(files, lambda path, data=data: data)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(text.startswith("0.dcm: ") and "\n" not in text for text in refused)


def test_the_mark_alone_is_enough(tmp_path):
    write_series(tmp_path, [make_slice(0)], "IM")
    assert pydicom.misc.is_dicom(tmp_path / "IM")
    assert dicom_listing.find(tmp_path)[1][0].images == (Path("IM"),)

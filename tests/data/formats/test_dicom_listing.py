"""Which files are the series, what lies beside it, and the sorts of files that archives send."""

import io

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_series import AXIAL, OTHER_SERIES, STUDY, make_slice, write_series
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import EnhancedMRImageStorage, JPEGLosslessSV1, generate_uid

from unet_jax.data.formats import dicom, dicom_frames, dicom_listing
from unet_jax.data.formats.image_file import read_file
from unet_jax.errors import InputError
from unet_jax.inference.writers import dicom_masks

OTHER = {"SeriesInstanceUID": OTHER_SERIES, "SeriesDescription": "AX T1"}


def _decoded(path):
    root, [files] = dicom_listing.find(path)
    return files, dicom.decode(files, lambda path: read_file(root, path))


def _heights(case):
    return case.image[:, 0, 0, 0].tolist()


def test_what_lies_beside_a_series_is_passed_over_and_named(tmp_path):
    write_series(tmp_path / "scan", [make_slice(number) for number in range(5)], "IM{}.dcm")
    report = make_slice(9, PixelData=None, Modality="SR", SeriesInstanceUID=generate_uid())
    plan = make_slice(8, SeriesInstanceUID=generate_uid(), SeriesDescription="3-plane Localizer")
    plan.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    write_series(tmp_path / "scan", [report], "dose.dcm")
    write_series(tmp_path / "scan", [plan], "LOC.dcm")
    write_series(tmp_path / "scan", [make_slice(7, **OTHER)], "key.dcm")
    files, case = _decoded(tmp_path / "scan")
    assert _heights(case) == [0, 1, 2, 3, 4]
    assert files.beside == "1 of a localizer (LOC.dcm), 1 of SR (dose.dcm), 1 of AX T1 (key.dcm)"


def test_a_folder_of_reports_holds_no_picture(tmp_path):
    write_series(tmp_path, [make_slice(1, PixelData=None, Modality="SR")])
    with pytest.raises(InputError, match=r"holds no picture, but 1 of SR \(0\.dcm\)"):
        dicom_listing.find(tmp_path)


def test_a_series_in_two_folders_is_one_case_and_copies_are_two(tmp_path):
    write_series(tmp_path / "data" / "anna" / "a", [make_slice(n) for n in range(3)])
    write_series(tmp_path / "data" / "anna" / "b", [make_slice(n) for n in range(3, 5)])
    files, case = _decoded(tmp_path / "data")
    assert (files.name, _heights(case)) == ("anna", [0, 1, 2, 3, 4])
    write_series(tmp_path / "data" / "anna" / "b", [make_slice(n) for n in range(3)])
    assert [files.name for files in dicom_listing.find(tmp_path / "data")[1]] == ["anna/a", "anna/b"]


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble_and_suffix(tmp_path, implicit):
    for number in range(4):
        dataset = make_slice(number)
        del dataset.file_meta
        (tmp_path / "scan").mkdir(exist_ok=True)
        pydicom.dcmwrite(
            tmp_path / "scan" / f"IM{number}",
            Dataset(dataset),
            implicit_vr=implicit,
            little_endian=True,
            enforce_file_format=False,
        )
    (tmp_path / "scan" / "README").write_text("not DICOM, " * 30)
    assert _heights(_decoded(tmp_path / "scan")[1]) == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_white_is_at_the_top_whatever_the_file_counts_from(tmp_path, dtype):
    pixels = np.arange(-30, 42, dtype=np.int16).reshape(8, 9)
    shown = pixels - pixels.min() if dtype == np.uint16 else pixels
    # PS3.3, C.7.6.3.1.2: of MONOCHROME1, the least value is white.
    stored = (4095 - shown if dtype == np.uint16 else -1 - shown).astype(dtype)
    bits = {"BitsStored": 12, "HighBit": 11}
    dataset = make_slice(0, stored, PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=5, **bits)
    write_series(tmp_path, [dataset])
    np.testing.assert_array_equal(_decoded(tmp_path / "0.dcm")[1].image[0, ..., 0], 2.0 * shown + 5)


def _enhanced(order):
    """An enhanced file of slices 4 mm apart, its frames in this order, with a slope of each frame's own."""
    frames = np.stack([np.full((8, 9), number, np.uint16) for number in order])
    whole = make_slice(0, frames[0], **STUDY)
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    whole.NumberOfFrames, whole.PixelData = len(frames), frames.tobytes()
    del whole.ImagePositionPatient, whole.ImageOrientationPatient, whole.PixelSpacing
    whole.SharedFunctionalGroupsSequence = [
        _item(
            PlaneOrientationSequence=[_item(ImageOrientationPatient=AXIAL)],
            PixelMeasuresSequence=[_item(PixelSpacing=[0.5, 0.75], SliceThickness=4)],
        )
    ]
    whole.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=[-10, -20, 4.0 * number])],
            PixelValueTransformationSequence=[_item(RescaleSlope=10, RescaleIntercept=number)],
        )
        for number in order
    ]
    return whole


def _item(**elements):
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item


def test_an_enhanced_file_is_a_series_and_its_mask_refers_to_its_frames(tmp_path):
    order = [3, 0, 2, 1]
    write_series(tmp_path, [_enhanced(order)])
    files, case = _decoded(tmp_path / "0.dcm")
    assert _heights(case) == [0, 11, 22, 33]
    assert case.spacing == (4, 0.5, 0.75)
    mask = np.random.default_rng(0).integers(0, 2, case.image.shape[:3], np.uint8)
    [(path, data)] = dicom_masks.encode(files, tmp_path, mask, None)
    found = highdicom.seg.segread(io.BytesIO(data))
    assert path.name == "0_mask.dcm"
    for frame, groups in zip(found.pixel_array, found.PerFrameFunctionalGroupsSequence, strict=True):
        number = round(groups.PlanePositionSequence[0].ImagePositionPatient[2] / 4)
        np.testing.assert_array_equal(frame, mask[number])
        [source] = groups.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedFrameNumber == order.index(number) + 1


def test_frames_without_places_are_refused(tmp_path):
    whole = _enhanced([0, 1])
    del whole.PerFrameFunctionalGroupsSequence
    write_series(tmp_path, [whole])
    with pytest.raises(InputError, match=r"0\.dcm: holds 2 frames, and nothing says where they lie"):
        _decoded(tmp_path / "0.dcm")


def _lossless_jpeg(pixels):
    """A JPEG of process 14, selection value 1, 16 bits (ITU T.81, annex H): differences to the left in 16-bit codes."""
    rows, columns = pixels.shape
    # One Huffman code of 5 bits for each length of a difference, 0 to 16.
    lengths = [0] * 4 + [17] + [0] * 11
    head = b"\xff\xd8\xff\xc3" + (11).to_bytes(2) + bytes([16]) + rows.to_bytes(2) + columns.to_bytes(2)
    head += bytes([1, 1, 0x11, 0]) + b"\xff\xc4" + (19 + 17).to_bytes(2) + bytes([0, *lengths, *range(17)])
    head += b"\xff\xda" + (8).to_bytes(2) + bytes([1, 1, 0, 1, 0, 0])
    values = pixels.astype(int)
    predicted = np.empty_like(values)
    predicted[0, 0], predicted[0, 1:], predicted[1:, 0] = 2**15, values[0, :-1], values[:-1, 0]
    predicted[1:, 1:] = values[1:, :-1]
    bits = ""
    for difference in ((values - predicted + 2**15) % 2**16 - 2**15).ravel().tolist():
        size = abs(difference).bit_length()
        extra = difference if difference > 0 else difference + 2**size - 1
        bits += f"{size:05b}" + (f"{extra:0{size}b}" if 0 < size < 16 else "")
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    return head + data + b"\xff\xd9"


def _lossless(pixels):
    dataset = make_slice(0, pixels)
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = encapsulate([_lossless_jpeg(pixels)])
    dataset["PixelData"].VR = "OB"
    return dataset


def test_jpeg_lossless_is_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2**14, (8, 9)).astype(np.uint16)
    write_series(tmp_path, [_lossless(pixels)])
    np.testing.assert_array_equal(_decoded(tmp_path / "0.dcm")[1].image[0, ..., 0], pixels)


def test_a_missing_decoder_is_named_with_its_extra(tmp_path, monkeypatch):
    write_series(tmp_path, [_lossless(np.zeros((8, 9), np.uint16))])

    class Decoder:
        is_available = False

    monkeypatch.setattr(dicom_frames, "get_decoder", lambda syntax: Decoder)
    with pytest.raises(InputError, match=r"0\.dcm: is compressed as JPEG Lossless: pip install '\.\[jpeg\]'"):
        _decoded(tmp_path / "0.dcm")

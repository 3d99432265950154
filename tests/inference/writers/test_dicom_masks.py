import highdicom
import numpy as np
import pydicom
import pytest
from dicom_series import STUDY, make_slice, write_series

from unet_jax.data.formats import dicom, dicom_listing
from unet_jax.data.formats.image_file import read_file
from unet_jax.errors import InputError
from unet_jax.inference.writers import dicom_masks


def _encoded(folder, mask, probability=None, classes=None):
    root, [files] = dicom_listing.find(folder)
    found = {}
    for path, data in dicom_masks.encode(files, root, mask, probability, classes):
        (folder.parent / path.name).write_bytes(data)
        found[path.name] = highdicom.seg.segread(folder.parent / path.name)
    return files, root, found


def _numbers_by_uid(datasets):
    return {dataset.SOPInstanceUID: number for number, dataset in enumerate(datasets)}


def test_each_frame_refers_to_its_slice_whatever_the_files_are_called(tmp_path):
    """Files and instance numbers run the other way than positions; slice 2 from below is empty."""
    datasets = [make_slice(number, **STUDY) for number in range(5)]
    write_series(tmp_path / "series", reversed(datasets))
    mask = np.random.default_rng(0).integers(0, 2, (5, 8, 9), np.uint8)
    mask[2] = 0
    _, _, found = _encoded(tmp_path / "series", mask)
    [segmentation] = found.values()
    assert list(found) == ["series_mask.dcm"]
    assert segmentation.Modality == "SEG"
    assert (segmentation.PatientID, segmentation.StudyInstanceUID) == ("anna", STUDY["StudyInstanceUID"])
    assert segmentation.FrameOfReferenceUID == STUDY["FrameOfReferenceUID"]
    places = segmentation.PerFrameFunctionalGroupsSequence
    heights = [frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in places]
    assert sorted(heights) == [0, 4, 12, 16]
    numbers = _numbers_by_uid(datasets)
    for frame, pixels, height in zip(places, segmentation.pixel_array, heights, strict=True):
        number = round(height / 4)
        np.testing.assert_array_equal(pixels, mask[number])
        [source] = frame.DerivationImageSequence[0].SourceImageSequence
        assert numbers[source.ReferencedSOPInstanceUID] == number
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert list(measures.PixelSpacing) == [0.5, 0.75]


def test_an_empty_mask_and_probabilities_are_written_too(tmp_path):
    write_series(tmp_path / "series", [make_slice(number, **STUDY) for number in range(3)])
    probability = np.random.default_rng(0).uniform(0.1, 1, (3, 8, 9)).astype(np.float32)
    _, _, found = _encoded(tmp_path / "series", np.zeros((3, 8, 9), np.uint8), probability)
    assert not found["series_mask.dcm"].pixel_array.any()
    fractional = found["series_probability.dcm"]
    assert fractional.SegmentationType == "FRACTIONAL"
    heights = [
        frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in fractional.PerFrameFunctionalGroupsSequence
    ]
    for pixels, height in zip(fractional.pixel_array, heights, strict=True):
        np.testing.assert_allclose(pixels / 255, probability[round(height / 4)], atol=0.5 / 255 + 1e-6)


def test_each_class_is_a_segment_under_its_name(tmp_path):
    write_series(tmp_path / "series", [make_slice(number, **STUDY) for number in range(3)])
    random = np.random.default_rng(0)
    mask = random.integers(0, 3, (3, 8, 9), np.uint8)
    probability = random.dirichlet(np.ones(3), mask.shape).astype(np.float32)
    _, _, found = _encoded(tmp_path / "series", mask, probability, {"edema": (50,), "core": (100, 150)})
    for name, expected, tolerance in (
        ("series_mask.dcm", [mask == 1, mask == 2], 0),
        ("series_probability.dcm", [probability[..., 1], probability[..., 2]], 0.5 / 255 + 1e-6),
    ):
        segmentation = found[name]
        assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["edema", "core"]
        scale = 255 if segmentation.SegmentationType == "FRACTIONAL" else 1
        seen = set()
        frames = segmentation.PerFrameFunctionalGroupsSequence
        for frame, pixels in zip(frames, segmentation.pixel_array, strict=True):
            height = frame.PlanePositionSequence[0].ImagePositionPatient[2]
            number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            place = (number - 1, round(height / 4))
            np.testing.assert_allclose(pixels / scale, expected[place[0]][place[1]], atol=tolerance)
            seen.add(place)
        assert len(seen) == 6


def test_a_class_that_was_not_found_is_described_all_the_same(tmp_path):
    write_series(tmp_path / "series", [make_slice(number, **STUDY) for number in range(3)])
    classes = {"edema": (1,), "core": (2,)}
    for filled in (0, 2):
        mask = np.full((3, 8, 9), filled, np.uint8)
        [segmentation] = _encoded(tmp_path / "series", mask, classes=classes)[2].values()
        assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["edema", "core"]


def test_a_series_that_nothing_can_refer_to_is_named(tmp_path):
    datasets = [make_slice(number) for number in range(3)]
    write_series(tmp_path / "series", datasets)
    with pytest.raises(InputError, match="series: no DICOM segmentation can refer to this series"):
        _encoded(tmp_path / "series", np.zeros((3, 8, 9), np.uint8))


def test_what_is_written_is_passed_over_as_no_image(tmp_path):
    write_series(tmp_path / "series", [make_slice(number, **STUDY) for number in range(3)])
    _encoded(tmp_path / "series", np.ones((3, 8, 9), np.uint8))
    written = pydicom.dcmread(tmp_path / "series_mask.dcm")
    assert written.SOPClassUID == pydicom.uid.SegmentationStorage
    root, [files] = dicom_listing.find(tmp_path / "series_mask.dcm")
    with pytest.raises(InputError):
        dicom.decode(files, lambda path: read_file(root, path))


def test_segments_of_classes_that_overlap_overlap_as_well(tmp_path):
    write_series(tmp_path / "series", [make_slice(number, **STUDY) for number in range(3)])
    random = np.random.default_rng(0)
    mask = random.integers(0, 4, (3, 8, 9), np.uint8)
    probability = random.uniform(0.1, 1, (*mask.shape, 3)).astype(np.float32)
    classes = {"whole": (2, 1, 4), "core": (1, 4), "enhancing": (4,)}
    _, _, found = _encoded(tmp_path / "series", mask, probability, classes)
    for name, expected, tolerance in (
        ("series_mask.dcm", [mask > 0, (mask == 1) | (mask == 3), mask == 3], 0),
        ("series_probability.dcm", np.moveaxis(probability, -1, 0), 0.5 / 255 + 1e-6),
    ):
        segmentation = found[name]
        assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == list(classes)
        scale = 255 if segmentation.SegmentationType == "FRACTIONAL" else 1
        frames = segmentation.PerFrameFunctionalGroupsSequence
        for frame, pixels in zip(frames, segmentation.pixel_array, strict=True):
            segment = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1
            number = round(frame.PlanePositionSequence[0].ImagePositionPatient[2] / 4)
            np.testing.assert_allclose(pixels / scale, expected[segment][number], atol=tolerance)


def test_an_empty_mask_is_written_without_a_word(tmp_path, recwarn, capsys, caplog):
    write_series(tmp_path / "series", [make_slice(number, **STUDY) for number in range(3)])
    _, _, found = _encoded(tmp_path / "series", np.zeros((3, 8, 9), np.uint8), np.zeros((3, 8, 9), np.float32))
    assert not any(segmentation.pixel_array.any() for segmentation in found.values())
    assert [str(warning.message) for warning in recwarn] == []
    assert (capsys.readouterr(), caplog.records) == (("", ""), [])

"""SEG and RTSTRUCT drawn on a series, read as masks; what was drawn is made by highdicom and pydicom."""

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_series import OTHER_SERIES, STUDY, make_slice, write_series
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from configs import default
from unet_jax.data import cache, load
from unet_jax.data.formats import dicom_listing, dicom_study, layouts
from unet_jax.data.formats.dicom_regions import inside
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.patterns import of_descriptions
from unet_jax.data.formats.sources import Settings, reader
from unet_jax.data.formats.unlabelled import image_reader
from unet_jax.errors import InputError
from unet_jax.inference.writers import dicom_masks
from unet_jax.run.resolve import resolve

SHAPE = (6, 40, 44)
RNG = np.random.default_rng(0)
SCAN = RNG.integers(0, 1000, SHAPE).astype(np.uint16)


def blob(*centre, radius=9):
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return ((z - centre[0]) * 3) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2


def series(**elements):
    return [make_slice(number, SCAN[number], **STUDY | elements) for number in range(SHAPE[0])]


def seg(datasets, masks, kind=SegmentationTypeValues.BINARY):
    described = [
        SegmentDescription(
            number, f"part {number}", codes.SCT.Tissue, codes.SCT.Neoplasm, SegmentAlgorithmTypeValues.MANUAL
        )
        for number in range(1, len(masks) + 1)
    ]
    return Segmentation(
        datasets, np.stack(masks, -1), kind, described, generate_uid(), 9, generate_uid(), 1, "", "", "1", "1"
    )


def rtstruct(contours, names=("GTV",)):
    """Contours by the region's number: closed polygons of points in millimetres."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = RTStructureSetStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    drawn = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    drawn.SOPClassUID, drawn.SOPInstanceUID, drawn.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    drawn.StudyInstanceUID, drawn.SeriesInstanceUID = STUDY["StudyInstanceUID"], generate_uid()
    drawn.StructureSetROISequence, drawn.ROIContourSequence = [], []
    for number, name in enumerate(names, 1):
        one, roi = Dataset(), Dataset()
        one.ROINumber, one.ROIName, roi.ReferencedROINumber = number, name, number
        roi.ContourSequence = []
        for points in contours.get(number, ()):
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.4f}" for value in np.ravel(points)]
            roi.ContourSequence.append(contour)
        drawn.StructureSetROISequence.append(one)
        drawn.ROIContourSequence.append(roi)
    return drawn


def circle(slice_, row, column, radius, points=400):
    """In millimetres: slices of tests lie 4 mm apart from (-10, -20, 0), with pixels of 0.5 by 0.75 mm."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    rows, columns = row + radius * np.cos(angle), column + radius * np.sin(angle)
    return np.stack([-10 + 0.75 * columns, -20 + 0.5 * rows, np.full(points, 4.0 * slice_)], -1)


def study(folder, drawn, datasets=None):
    write_series(folder / "scan", datasets or series())
    (folder / "drawn").mkdir(exist_ok=True)
    drawn.save_as(folder / "drawn" / "mask.dcm", enforce_file_format=True)
    return folder


def decoded(folder, labels=None, channels=None):
    [files] = dicom_study.find(folder, channels and of_descriptions(channels))
    return dicom_study.decode(files, lambda path: read_file(folder, path), labels)


def test_a_polygon_holds_the_pixels_whose_centres_it_holds():
    rows, columns = np.array([0.5, 0.5, 4.5, 4.5]), np.array([1.5, 6.5, 6.5, 1.5])
    expected = np.zeros((8, 9), bool)
    expected[1:5, 2:7] = True
    np.testing.assert_array_equal(inside(rows, columns, (8, 9)), expected)
    np.testing.assert_array_equal(inside(rows[::-1], columns[::-1], (8, 9)), expected)
    np.testing.assert_array_equal(
        inside(rows - 3, columns + 4, (8, 9)),
        np.roll(expected, (-3, 4), (0, 1)) & (np.arange(9) > 4) & (np.arange(8) < 2)[:, None],
    )


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_is_the_mask(tmp_path, kind):
    first, second = blob(2, 15, 15), blob(4, 28, 30, radius=7)
    study(tmp_path, seg(series(), [first, second], SegmentationTypeValues[kind]))
    labels = {"a": (1,), "b": (2,)}
    case = decoded(tmp_path, labels)
    np.testing.assert_array_equal(case.mask, first + 2 * second)
    np.testing.assert_array_equal(case.image[..., 0], SCAN)
    assert (case.patient, case.spacing) == ("anna", (4, 0.5, 0.75))
    np.testing.assert_array_equal(decoded(tmp_path, {"b": (2,)}).mask, second)


def test_contours_are_the_mask(tmp_path):
    """Two discs with a hole, at the overlap that a pixel's size allows, and nothing elsewhere."""
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    distance = np.hypot(y - 18, x - 20)
    study(tmp_path, rtstruct({1: [circle(1, 18, 20, 12.5), circle(3, 18, 20, 12.5), circle(3, 18, 20, 5.5)]}))
    mask = decoded(tmp_path).mask
    np.testing.assert_array_equal(mask[1], distance < 12.5)
    np.testing.assert_array_equal(mask[3], (distance < 12.5) & (distance > 5.5))
    assert not mask[[0, 2, 4, 5]].any()


@pytest.mark.parametrize("modality", ["SEG", "RTSTRUCT"])
def test_what_was_drawn_comes_back_as_a_segmentation(tmp_path, modality):
    contours = {1: [circle(slice_, 18 + slice_, 20, 9.3) for slice_ in range(1, 5)]}
    true = np.zeros(SHAPE, bool)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    for slice_ in range(1, 5):
        true[slice_] = np.hypot(y - 18 - slice_, x - 20) < 9.3
    study(tmp_path, rtstruct(contours) if modality == "RTSTRUCT" else seg(series(), [true]))
    mask = decoded(tmp_path).mask
    root, [files] = dicom_listing.find(tmp_path / "scan")
    [(path, data)] = dicom_masks.encode(files, root, mask, None)
    (tmp_path / path).write_bytes(data)
    found = highdicom.seg.segread(tmp_path / path)
    back = np.zeros(SHAPE, bool)
    for frame, groups in zip(found.pixel_array, found.PerFrameFunctionalGroupsSequence, strict=True):
        back[round(groups.PlanePositionSequence[0].ImagePositionPatient[2] / 4)] = frame
    assert 2 * (back & true).sum() / (back.sum() + true.sum()) >= 0.99


def test_regions_by_their_numbers(tmp_path):
    study(tmp_path, rtstruct({1: [circle(1, 18, 20, 12)], 2: [circle(1, 18, 20, 5)]}, ("Body", "GTV")))
    assert decoded(tmp_path, {"tumour": (2,)}).mask[1].sum() == pytest.approx(np.pi * 25, rel=0.1)
    with pytest.raises(InputError, match=r"mask\.dcm: has 2 regions: 1 \(Body\), 2 \(GTV\): say which are meant with"):
        decoded(tmp_path)
    with pytest.raises(InputError, match=r"mask\.dcm: has two classes at one place"):
        decoded(tmp_path, {"body": (1,), "tumour": (2,)})
    mask = decoded(tmp_path, {"body": (1,), "ignore": (2,)}).mask[1]
    assert (mask[18, 20], mask[18, 29]) == (255, 1)
    mask = decoded(tmp_path, {"tumour": (2,), "background": (1,)}).mask[1]
    assert (mask[18, 20], mask[18, 29]) == (1, 0)


def test_sequences_of_a_study_are_channels(tmp_path):
    datasets = series()
    write_series(
        tmp_path / "t1",
        [
            make_slice(n, SCAN[n] + 1, **STUDY | {"SeriesInstanceUID": OTHER_SERIES, "SeriesDescription": "AX T1"})
            for n in range(SHAPE[0])
        ],
    )
    study(tmp_path, seg(datasets, [blob(2, 15, 15)]), datasets)
    case = decoded(tmp_path, channels="*{channel:t1|flair}")
    np.testing.assert_array_equal(case.image, np.stack([SCAN + 1, SCAN], -1))
    with pytest.raises(InputError, match=r"has 0 series for the channel t2 of .*, of AX FLAIR \(6 files\), AX T1 \(6"):
        decoded(tmp_path, channels="{channel:t2}")
    with pytest.raises(InputError, match=r"has 2 series .*: name the channels by words of these descriptions, as in"):
        decoded(tmp_path)
    for wrong in ("{case}_{channel:t1|flair}", "{channel}", "{channel:t[12]}"):
        with pytest.raises(InputError, match="its only field is a list of channels"):
            decoded(tmp_path, channels=wrong)


def test_descriptions_are_no_paths_and_the_longer_word_counts(tmp_path):
    datasets = series(SeriesDescription="AX T1/SE")
    others = {"T1 post/SE": 1, "Flair": 2}
    for description, added in others.items():
        elements = STUDY | {"SeriesInstanceUID": f"{OTHER_SERIES}.{added}", "SeriesDescription": description}
        write_series(tmp_path / str(added), [make_slice(n, SCAN[n] + added, **elements) for n in range(SHAPE[0])])
    study(tmp_path, seg(datasets, [blob(2, 15, 15)]), datasets)
    case = decoded(tmp_path, channels="*{channel:T1|T1 POST}*")
    np.testing.assert_array_equal(case.image, np.stack([SCAN, SCAN + 1], -1))
    [files] = dicom_study.find(tmp_path, of_descriptions("*{channel:T1|T1 POST}*"))
    assert files.beside == "6 of Flair (2/0.dcm)"


def test_a_run_on_channels_predicts_on_studies_and_refers_to_the_first_channel(tmp_path):
    first = STUDY | {"SeriesInstanceUID": OTHER_SERIES, "SeriesDescription": "AX T1"}
    write_series(tmp_path / "anna" / "t1", [make_slice(n, SCAN[n] + 1, **first) for n in range(SHAPE[0])])
    write_series(tmp_path / "anna" / "flair", series())
    settings = Settings(images="*{channel:T1|FLAIR}", intensity="range")
    made, root = image_reader(tmp_path, settings)
    [files] = made.find(root)
    case = made.decode(files, lambda path: read_file(root, path))
    np.testing.assert_array_equal(case.image, np.stack([SCAN + 1, SCAN], -1))
    assert (files.name, case.mask) == ("anna", None)
    [(path, data)] = dicom_masks.encode(files, root, blob(2, 15, 15).astype(np.uint8), None)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(data)
    found = highdicom.seg.segread(tmp_path / path)
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == OTHER_SERIES


def test_auto_finds_studies_and_the_channels_of_a_config(tmp_path):
    write_series(
        tmp_path / "data" / "anna" / "t1",
        [
            make_slice(n, SCAN[n], **STUDY | {"SeriesInstanceUID": OTHER_SERIES, "SeriesDescription": "AX T1"})
            for n in range(SHAPE[0])
        ],
    )
    study(tmp_path / "data" / "anna", seg(series(), [blob(2, 15, 15)]))
    layout = layouts.find(tmp_path / "data")
    assert (layout.source, layout.root) == ("dicom", tmp_path / "data")
    config = default.get_config()
    config.data.root = str(tmp_path / "data")
    config.data.images = "*{channel:T1|FLAIR}"
    resolved, messages = resolve(config, {"data.root", "data.images"})
    assert (resolved.data.source, resolved.data.images) == ("dicom", "*{channel:T1|FLAIR}")
    assert messages == [
        f"Data: {config.data.root} holds DICOM, of which each study is a case (config.data.source=dicom)."
    ]
    resolved.data.cache = str(tmp_path / "cache")
    data = load.load(resolved)
    assert (data.channel_names, data.unit) == (("T1", "FLAIR"), "patient")
    np.testing.assert_array_equal(data.cases[0].mask, blob(2, 15, 15))
    config.data.root = str(tmp_path)
    (tmp_path / "data" / "a.png").touch()
    config.data.source = "patterns"
    with pytest.raises(InputError, match=r"images is set and config\.data\.masks is not"):
        resolve(config, {"data.root", "data.images"})


def test_series_that_lie_elsewhere_are_no_channels(tmp_path):
    other = {"SeriesInstanceUID": OTHER_SERIES, "SeriesDescription": "AX T1"}
    moved = [make_slice(n, SCAN[n], **STUDY | other | {"ImagePositionPatient": [-9, -20, 4.0 * n]}) for n in range(6)]
    write_series(tmp_path / "t1", moved)
    study(tmp_path, seg(series(), [blob(2, 15, 15)]))
    with pytest.raises(InputError, match=r"its series lies up to 1\.0 mm away from that of scan/"):
        decoded(tmp_path, channels="*{channel:flair|t1}")


def test_training_reads_studies(tmp_path):
    study(tmp_path / "data" / "anna", seg(series(), [blob(2, 15, 15)]))
    [case], *_ = cache.load(reader(tmp_path / "data", "dicom", Settings()), tmp_path / "data", tmp_path / "cache")
    np.testing.assert_array_equal(case.mask, blob(2, 15, 15))
    assert (case.name, case.patient) == ("anna", "anna")


def test_a_mask_of_something_else_is_refused(tmp_path):
    other = series(FrameOfReferenceUID=generate_uid())
    study(tmp_path, seg(other, [blob(2, 15, 15)]))
    with pytest.raises(InputError, match=r"drawn/mask\.dcm: is of another frame of reference"):
        decoded(tmp_path)
    moved = [make_slice(n, SCAN[n], **STUDY | {"ImagePositionPatient": [-10, -20, 4.0 * n + 1]}) for n in range(6)]
    study(tmp_path, seg(moved, [blob(2, 15, 15)]))
    with pytest.raises(InputError, match=r"has a frame 1\.0 mm away from the nearest slice"):
        decoded(tmp_path)
    study(tmp_path, rtstruct({1: [circle(7, 18, 20, 5)]}))
    with pytest.raises(InputError, match=r"has a contour 8\.0 mm away from the nearest slice"):
        decoded(tmp_path)
    (tmp_path / "drawn" / "mask.dcm").unlink()
    with pytest.raises(InputError, match="needs one SEG or RTSTRUCT, and has none"):
        decoded(tmp_path)


@pytest.mark.parametrize("modality", ["SEG", "RTSTRUCT"])
def test_random_damage_is_always_answered_by_an_input_error(tmp_path, modality):
    drawn = (
        rtstruct({1: [circle(1, 18, 20, 12, points=20)]})
        if modality == "RTSTRUCT"
        else seg(series(), [blob(2, 15, 15)])
    )
    study(tmp_path, drawn)
    whole = (tmp_path / "drawn" / "mask.dcm").read_bytes()
    [files] = dicom_study.find(tmp_path)
    rng, refused = np.random.default_rng(0), 0
    for _ in range(100):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 30):
            data[at] ^= 1 << rng.integers(8)
        try:
            dicom_study.decode(
                files, lambda path, data=data: bytes(data) if path in files.masks else read_file(tmp_path, path), None
            )
        except InputError:
            refused += 1
    assert refused > 10
    assert pydicom.dcmread(tmp_path / "drawn" / "mask.dcm").Modality == modality

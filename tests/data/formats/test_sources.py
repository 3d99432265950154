import builtins
import importlib
import json
import subprocess
import sys

import cv2
import nibabel
import numpy as np
import pytest

from unet_jax.data import cache, phantom
from unet_jax.data.formats import lgg, sources
from unet_jax.data.formats.image_file import read_file
from unet_jax.data.formats.sources import Settings, notes, reader
from unet_jax.data.formats.unlabelled import image_reader
from unet_jax.errors import InputError


def _picture(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((4, 4), np.uint8) if pixels is None else pixels)


def _volume(path, shape=(4, 5, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), np.eye(4)), path)


def test_lgg_is_as_its_reader_gives_it_unless_it_is_normalised(tmp_path):
    phantom.write(tmp_path / "scans", seed=0, patients=1, size=32, slices=(3, 4))
    plain = cache.load(lgg, tmp_path / "scans", tmp_path / "cache")
    for intensity in ("auto", "range"):
        made = reader(tmp_path / "scans", "lgg", Settings(intensity=intensity))
        assert cache.load(made, tmp_path / "scans", tmp_path / "cache")[1] == plain[1]
    made = reader(tmp_path / "scans", "phantom", Settings(intensity="volume"))
    [case], fingerprint, _ = cache.load(made, tmp_path / "scans", tmp_path / "cache")
    assert fingerprint != plain[1]
    assert case.image.dtype == np.uint8
    for channel in range(3):
        tissue = plain[0][0].image[..., channel]
        low, high = np.percentile(tissue[tissue > 0], [0.5, 99.5])
        expected = np.clip((tissue.astype(float) - low) / (high - low), 0, 1) * 255
        np.testing.assert_array_equal(case.image[..., channel], np.rint(expected))
    np.testing.assert_array_equal(case.mask, plain[0][0].mask)


def test_prediction_sees_the_scans_that_training_saw(tmp_path):
    scans = tmp_path / "scans"
    phantom.write(scans, seed=0, patients=2, size=32, slices=(11, 12))
    settings = Settings(intensity="volume")
    made = reader(scans, "lgg", settings)
    trained = [made.decode(files, lambda path: read_file(scans, path)) for files in made.find(scans)]
    for path, count in ((scans, 2), (scans / trained[0].name, 1)):
        made, root = image_reader(path, settings)
        found = made.find(root)
        assert len(found) == count
        for files, case in zip(found, trained, strict=False):
            seen = made.decode(files, lambda path, root=root: read_file(root, path))
            np.testing.assert_array_equal(seen.image, case.image)
            assert (seen.patient, seen.mask) == (case.patient, None)


def test_what_decides_about_cases_is_part_of_the_fingerprint(tmp_path):
    for name in ("p_1", "p_2"):
        _picture(tmp_path / f"{name}.png")
        _picture(tmp_path / f"{name}_mask.png")
    texts = {
        reader(tmp_path, "pairs", settings).DECODING
        for settings in (
            Settings(),
            Settings(intensity="volume"),
            Settings(intensity="range"),
            Settings(labels="tumour=255"),
            Settings(labels="tumour=254"),
            Settings(patient_pattern="(?P<patient>p)_."),
            Settings(patient_pattern="(?P<patient>p)_(?P<slice>.)"),
        )
    }
    assert len(texts) == 7


def test_classes_are_those_that_masks_tell_apart(tmp_path):
    several = sources.classes(tmp_path, "pairs", Settings(labels="edema=1, core=2+4"))
    assert list(several.items()) == [("edema", (1,)), ("core", (2, 4))]
    assert sources.classes(tmp_path, "pairs", Settings(labels="tumour=255")) == {}
    assert sources.classes(tmp_path, "pairs", Settings()) == {}
    for source in ("lgg", "phantom"):
        assert sources.classes(tmp_path, source, Settings()) == {}
    description = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "b": 2, "a": 1}, "file_ending": ".nii"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    assert list(sources.classes(tmp_path, "nifti", Settings())) == ["b", "a"]
    assert sources.classes(tmp_path, "nifti", Settings(labels="both=1+2")) == {}


def test_masks_of_several_classes_hold_their_numbers(tmp_path):
    _picture(tmp_path / "a.png")
    _picture(tmp_path / "a_mask.png", np.array([[0, 50, 50, 0], [70, 60, 0, 0], [0] * 4, [0] * 4], np.uint8))
    made = reader(tmp_path, "pairs", Settings(labels="edema=60+70, core=50"))
    [files] = made.find(tmp_path)
    mask = made.decode(files, lambda path: read_file(tmp_path, path)).mask
    assert mask[0, :2].tolist() == [[0, 2, 2, 0], [1, 1, 0, 0]]


def test_pictures_that_count_as_patients_are_announced():
    [note] = notes("pairs", Settings())
    assert note.startswith("Each picture counts as a patient of its own")
    assert notes("nifti", Settings())[0].startswith("Each case counts as a patient of its own")
    assert notes("pairs", Settings(patient_pattern="(?P<patient>.)")) == notes("lgg", Settings()) == []


def test_a_split_is_by_patient_only_where_somebody_named_patients():
    named = Settings(patient_pattern="(?P<patient>.)")
    assert [sources.unit(source, Settings()) for source in ("lgg", "tfds", "phantom")] == ["patient"] * 3
    assert [sources.unit(source, Settings()) for source in ("pairs", "nifti")] == ["picture", "case"]
    assert [sources.unit(source, named) for source in ("pairs", "nifti")] == ["patient"] * 2
    assert sources.unit("pairs", Settings(patient_csv="who.csv")) == "patient"


def test_channels_are_called_as_the_data_have_it(tmp_path):
    description = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    names = sources.channel_names
    assert names("lgg", tmp_path, 3) == names("phantom", tmp_path, 3) == ("pre-contrast", "FLAIR", "post-contrast")
    assert names("nifti", tmp_path, 2) == ("T2", "ADC")
    assert names("nifti", tmp_path, 3) == names("pairs", tmp_path, 3) == ("sequence 1", "sequence 2", "sequence 3")
    assert names("nifti", tmp_path / "nowhere", 1) == ("sequence 1",)
    for source, channel in (("lgg", 1), ("tfds", 1), ("pairs", 1), ("patterns", 1), ("nifti", 0)):
        assert sources.channel_to_show(source, names(source, tmp_path, 3)) == channel
    assert sources.channel_to_show("lgg", ("sequence 1",)) == 0
    # Files of one channel each are no colours.
    assert sources.channel_to_show("patterns", ("T1", "T2", "FLAIR")) == 0


def test_settings_are_those_of_the_config():
    data = {"intensity": "range", "labels": "a=1", "patient_pattern": None, "patient_csv": "x.csv", "root": "data"}
    data |= {"images": "{case}.png", "masks": "{case}_m.png", "mask_threshold": 128, "axes": "file"}
    data |= {"regions_class_order": (2, 1)}
    found = sources.settings(data)
    assert found == Settings("range", "a=1", None, "x.csv", "{case}.png", "{case}_m.png", 128, "file", (2, 1))


def test_the_sort_of_images_to_predict_is_found(tmp_path):
    _picture(tmp_path / "pictures" / "a.png", np.full((4, 4), 7, np.uint8))
    _picture(tmp_path / "pictures" / "a_mask.png")
    _volume(tmp_path / "volumes" / "b.nii.gz")
    for path, name in ((tmp_path / "pictures", "a"), (tmp_path / "volumes", "b"), (tmp_path / "pictures/a.png", "a")):
        made, root = image_reader(path, Settings())
        [files] = made.find(root)
        assert files.name == name
        assert made.decode(files, lambda path, root=root: read_file(root, path)).mask is None
    with pytest.raises(InputError, match=r"several sorts, such as a\.png \(picture\), b\.nii\.gz \(volume\)"):
        image_reader(tmp_path, Settings())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image that can be read"):
        image_reader(tmp_path / "empty", Settings())
    with pytest.raises(InputError, match="there is no such file or folder"):
        image_reader(tmp_path / "nowhere", Settings())


def test_names_that_tell_no_patient_are_predicted_all_the_same(tmp_path):
    _picture(tmp_path / "a.png")
    made, root = image_reader(tmp_path, Settings(patient_pattern="(?P<patient>[0-9]+)"))
    [files] = made.find(root)
    assert (files.name, files.faults) == ("a", ())


@pytest.mark.parametrize(
    ("package", "module", "file"), [("nibabel", "nifti", "a.nii.gz"), ("pydicom", "dicom", "a.dcm")]
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, package, module, file):
    (tmp_path / file).write_bytes(b"")
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    formats = "unet_jax.data.formats"
    for name in ("nifti", "nifti_file", "voxel_grid", "dicom", "dicom_frames", "dicom_listing"):
        monkeypatch.delitem(sys.modules, f"{formats}.{name}", raising=False)
        # What `from unet_jax.data.formats import nifti` would find without importing.
        monkeypatch.delattr(importlib.import_module(formats), name, raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=rf"need the package {package}: pip install \.\[{module}\]"):
        image_reader(tmp_path / file, Settings())


def test_a_run_by_patterns_predicts_on_folders_like_its_own(tmp_path):
    settings = Settings(images="images/{case}_{channel:x|y}.png", masks="masks/{case}.png")
    for name, value in (("a_x", 1), ("a_y", 2), ("a", 255)):
        _picture(tmp_path / f"{name}.png", np.full((4, 4), value, np.uint8))
    made, root = image_reader(tmp_path, settings, 2)
    [files] = made.find(root)
    case = made.decode(files, lambda path: read_file(root, path))
    assert (case.name, case.mask, case.image[0, 0, 0].tolist()) == ("a", None, [1, 2])
    [alone] = image_reader(tmp_path / "a_x.png", settings, 1)[0].find(tmp_path)
    assert alone.name == "a_x"


def test_two_keys_that_tell_the_same_are_refused(tmp_path):
    by_field = {"images": "i/{patient}.png", "masks": "m/{patient}.png"}
    with pytest.raises(InputError, match=r"its field \{patient\} and config\.data\.patient_pattern both tell patients"):
        reader(tmp_path, "patterns", Settings(**by_field, patient_pattern="(?P<patient>.*)"))
    with pytest.raises(InputError, match="mask_threshold is for one class, and labels names several, or what"):
        reader(tmp_path, "pairs", Settings(labels="a=1, b=2", mask_threshold=128))


@pytest.mark.parametrize(
    ("images", "unit"),
    [
        ("{case}.png", "picture"),
        ("{patient}/{case}.png", "patient"),
        ("{case}_{slice}.png", "case"),
        ("{case}.nii.gz", "case"),
    ],
)
def test_what_a_split_keeps_together_follows_from_the_pattern(images, unit):
    assert sources.unit("patterns", Settings(images=images, masks=f"m/{images}")) == unit


def test_channels_are_called_as_their_pattern_has_them(tmp_path):
    assert sources.channel_names("patterns", tmp_path, 2, "{case}_{channel:flair|t1}.nii") == ("flair", "t1")
    assert sources.channel_names("patterns", tmp_path, 2, "{case}.nii") == ("sequence 1", "sequence 2")


def test_an_array_is_read_as_a_file_of_its_type_is():
    small = np.array([[0, 1, 200]], np.uint8)
    assert sources.as_read("pairs", small).dtype == sources.as_read("lgg", small.astype(np.int64)).dtype == np.uint8
    np.testing.assert_array_equal(sources.as_read("pairs", np.array([0, 65535], np.uint16)), [0, 1])
    for source, array in (("nifti", small), ("dicom", small), ("pairs", small.astype(np.int16)), ("lgg", small / 7)):
        found = sources.as_read(source, array)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, array.astype(np.float32))
    np.testing.assert_array_equal(sources.as_read("pairs", np.array([True, False])), [255, 0])
    assert sources.as_read("pairs", np.array([1.5])).dtype == np.float32


DECODED_FIRST = """
import gc, pathlib, sys, weakref

from unet_jax.data import intensity
from unet_jax.data.formats import sources

gc.disable()
root, given, normalise = pathlib.Path(sys.argv[1]), [], intensity.normalise
intensity.normalise = lambda image, mode: (given.append(weakref.ref(image)), normalise(image, mode))[1]
reader = sources.reader(root, "patterns", sources.Settings(images="images/{case}.nii", masks="masks/{case}.nii"))
[files] = reader.find(root)
case = reader.decode(files, lambda path: reader.read(root, path))
sys.exit("kept" if given[0]() is not None else 0)
"""


def test_what_a_volume_was_before_normalising_is_not_kept(tmp_path):
    """Also not by the exceptions of imports that failed within decoding, which nibabel keeps."""
    for folder in ("images", "masks"):
        _volume(tmp_path / folder / "a.nii", (1, 1, 2))
    subprocess.run([sys.executable, "-c", DECODED_FIRST, str(tmp_path)], check=True)

import csv
import importlib
import shutil
import sys
import tracemalloc
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_series import STUDY, make_slice, write_series
from disks import small_disk
from PIL import Image

from unet_jax.data.load import load
from unet_jax.errors import InputError, StorageError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.files import write_json
from unet_jax.inference import ensemble, postprocess, prediction_task, segment
from unet_jax.inference import predict as prediction
from unet_jax.inference.network import load_network
from unet_jax.inference.predict import predict
from unet_jax.metrics import cases as scoring
from unet_jax.run import folder as run_folder
from unet_jax.run.checkpoint import Restored
from unet_jax.run.config import as_json, read_config
from unet_jax.runtime.mesh import data_mesh
from unet_jax.training.train import train


@pytest.fixture(scope="module")
def config(settings, configure):
    return configure(settings | {"train.epochs": 1, "eval.postprocess.minimum_voxels": 3})


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    """A run whose threshold lies amid the probabilities that it gives: any difference shows in the masks."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(config, folder)
    cases = load(config).cases
    probability, _ = load_network(folder, config, data_mesh())
    config.eval.threshold = float(np.median(probability(np.asarray(cases[0].image))))
    write_json(folder / run_folder.CONFIG, as_json(config.to_dict()))
    return folder


@pytest.fixture
def scans(config, tmp_path):
    """The phantom's folders, to be changed at will."""
    return shutil.copytree(config.data.root, tmp_path / "kaggle_3m")


@pytest.fixture
def by_brightness(settings, configure, tmp_path, monkeypatch):
    """A run whose network answers with a grey image's own intensities; what it is given is noted."""
    config = configure(settings | {"data.intensity": "range", "train.batch_size": 3})
    folder = tmp_path / "brightness"
    write_json(folder / run_folder.CONFIG, as_json(config.to_dict()))
    monkeypatch.setattr(prediction_task, "image_channels", lambda workdir, config: 1)

    def probability(image, sizes=None):
        return image[..., 0] / (255 if image.dtype == np.uint8 else 1)

    monkeypatch.setattr(ensemble, "load_network", lambda *arguments: (probability, Restored(1, True, {}, {})))
    return folder


def read(path):
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, path
    return pixels


def masks_under(folder):
    return {path.relative_to(folder): read(path) for path in folder.rglob("*_mask.tif")}


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("flips", "tiles"), [(None, None), (True, True)])
def test_predict_writes_the_masks_that_evaluate_scores_bit_for_bit(
    workdir, config, scans, tmp_path, monkeypatch, flips, tiles
):
    scored = {}
    original = postprocess.stages

    def noting(mask, settings):
        for stage, found in original(mask, settings):
            scored.setdefault(stage, []).append(found)
            yield stage, found

    # Without cropping, what is scored is a whole mask.
    monkeypatch.setattr(scoring, "_cropped", lambda predicted, truth: (predicted, truth))
    monkeypatch.setattr(postprocess, "stages", noting)
    metrics = evaluate(workdir, side="all", flips=flips, tiles=tiles)
    final = scored["minimum_voxels"][: metrics["cases"]]
    monkeypatch.undo()
    assert (metrics["tta"], metrics["tiles"]) == (bool(flips), bool(tiles))

    cases = load(config).cases
    predict(workdir, scans, tmp_path / "out", flips=flips, tiles=tiles)
    found = masks_under(tmp_path / "out")
    assert len(found) == sum(len(case.image) for case in cases)
    assert any(mask.any() for mask in found.values())
    for case, mask in zip(cases, final, strict=True):
        numbers = sorted(int(path.stem.split("_")[-2]) for path in found if path.parts[0] == case.name)
        names = [Path(case.name, f"{case.name}_{number}_mask.tif") for number in numbers]
        np.testing.assert_array_equal(np.stack([found[name] for name in names]), mask * 255)

    # One patient alone, and one slice alone, as no part falls below the smallest size there.
    name = cases[2].name
    predict(workdir, scans / name, tmp_path / "one", flips=flips, tiles=tiles)
    for path, mask in masks_under(tmp_path / "one").items():
        np.testing.assert_array_equal(mask, found[name / path])


def test_masks_beside_the_images_are_not_read(workdir, scans, tmp_path):
    predict(workdir, scans, tmp_path / "before")
    for number, path in enumerate(sorted(scans.rglob("*_mask.tif"))):
        path.unlink() if number % 2 else path.write_bytes(b"no picture")
    predict(workdir, scans, tmp_path / "after")
    before, after = masks_under(tmp_path / "before"), masks_under(tmp_path / "after")
    assert before.keys() == after.keys()
    assert all((before[path] == after[path]).all() for path in before)


def test_a_bad_file_is_named_at_the_end_and_all_others_are_done(workdir, scans, tmp_path, capsys):
    folders = sorted(path for path in scans.iterdir() if path.is_dir())
    damaged = sorted(path for path in folders[1].iterdir() if not path.stem.endswith("_mask"))[2]
    damaged.write_bytes(damaged.read_bytes()[:200])
    cv2.imwrite(str(folders[4] / f"{folders[4].name}_1.tif"), np.zeros((32, 32), np.uint8))
    with pytest.raises(InputError) as error:
        predict(workdir, scans, tmp_path / "out")
    first, *lines = str(error.value).splitlines()
    assert error.value.exit_code == 2
    assert first == "2 of 8 cases have no mask; all others are written:"
    assert damaged.name in lines[0]
    assert f"{folders[4].name}_" in "".join(lines[1:])
    assert {path.parts[0] for path in masks_under(tmp_path / "out")} == {
        folder.name for folder in folders if folder not in (folders[1], folders[4])
    }
    assert len(table(tmp_path / "out" / "cases.csv")) == 6
    assert "6 cases" in capsys.readouterr().out


def test_existing_output_is_found_before_anything_is_computed(by_brightness, tmp_path, monkeypatch):
    source, out = tmp_path / "a.png", tmp_path / "out"
    cv2.imwrite(str(source), np.full((4, 6), 200, np.uint8))
    predict(by_brightness, source, out)
    assert (read(out / "a_mask.png") == 255).all()
    cv2.imwrite(str(source), np.zeros((4, 6), np.uint8))
    with monkeypatch.context() as patch:
        patch.setattr(prediction, "write_cases", None)
        with pytest.raises(InputError, match=r"out: holds cases.csv, slices.csv, a_mask.png already: .* --overwrite"):
            predict(by_brightness, source, out)
    assert (read(out / "a_mask.png") == 255).all()
    predict(by_brightness, source, out, overwrite=True)
    assert not read(out / "a_mask.png").any()
    assert sorted(path.name for path in out.iterdir()) == ["a_mask.png", "cases.csv", "slices.csv"]


@pytest.mark.parametrize("pages", [1, 3])
def test_what_is_of_an_old_mask_does_not_stay_beside_a_new_one(by_brightness, tmp_path, pages):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    bright = [np.full((4, 6), 200, np.uint8)] * pages
    for name in ("a", "b"):
        cv2.imwritemulti(str(source / f"{name}.tif"), bright)
    predict(by_brightness, source, out, probabilities=True, overlays=True)
    written = {path: path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    of_b = {path for path, name in written.items() if name.removeprefix("overlays/").startswith("b")}
    (out / "a_mask.tif").unlink()
    (out / "mine.txt").touch()
    for table_file in ("cases.csv", "slices.csv"):
        (out / table_file).unlink()
    with pytest.raises(InputError, match=r"holds a_probability\.tif, overlays/a.* already"):
        predict(by_brightness, source / "a.tif", out)
    predict(by_brightness, source / "a.tif", out, overwrite=True)
    left = {path for path in out.rglob("*") if path.is_file()}
    assert left - of_b == {out / name for name in ("a_mask.tif", "mine.txt", "cases.csv", "slices.csv")}
    assert {path for path in of_b if path.exists()} == of_b


def test_output_must_be_a_folder_outside_of_the_input(by_brightness, tmp_path):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), np.zeros((4, 6), np.uint8))
    for output in (tmp_path / "in", tmp_path / "in" / "masks"):
        with pytest.raises(InputError, match="--output lies within --input"):
            predict(by_brightness, tmp_path / "in", output)
    with pytest.raises(InputError, match="is a file, and --output must be a folder"):
        predict(by_brightness, tmp_path / "in", tmp_path / "in" / "a.png")
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.png"]


def test_a_turned_photo_gets_no_mask_that_its_viewer_would_show_elsewhere(by_brightness, tmp_path):
    (tmp_path / "in").mkdir()
    for orientation in (1, 6):
        described = Image.Exif()
        described[0x0112] = orientation
        pixels = Image.fromarray(np.full((4, 6), 200, np.uint8))
        pixels.save(tmp_path / "in" / f"orientation_{orientation}.jpg", exif=described)
    with pytest.raises(InputError) as error:
        predict(by_brightness, tmp_path / "in", tmp_path / "out")
    assert str(error.value).splitlines()[1:] == [
        "orientation_6.jpg: is stored turned or mirrored (orientation 6): save it upright."
    ]
    [mask] = (tmp_path / "out").glob("*_mask.png")
    assert (mask.name, read(mask).shape) == ("orientation_1_mask.png", (4, 6))


def test_pictures_of_any_size_and_sort_get_masks_of_their_own(by_brightness, tmp_path):
    """The brightness network's mask is the image above a half; its probability the image itself."""
    rng = np.random.default_rng(0)
    sizes = {"a.png": (4, 6), "b/c.png": (9, 5), "b/d.tiff": (4, 6), "e.jpg": (64, 40)}
    for name, size in sizes.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / name), rng.integers(0, 256, size, np.uint8))
    cv2.imwrite(str(tmp_path / "in" / "f.png"), rng.integers(0, 65536, (3, 3), np.uint16))
    rows = predict(by_brightness, tmp_path / "in", tmp_path / "out", probabilities=True, overlays=True)
    for name in [*sizes, "f.png"]:
        image = read(tmp_path / "in" / name)
        suffix = ".tiff" if name.endswith(".tiff") else ".png"
        stem = (tmp_path / "out" / name).with_suffix("")
        share = image / np.float32(255 if image.dtype == np.uint8 else 65535)
        mask = read(f"{stem}_mask{suffix}")
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, (share >= 0.5) * 255)
        probability = read(f"{stem}_probability{suffix}")
        assert probability.dtype == np.uint16
        np.testing.assert_allclose(probability / 65535, share, atol=1e-5)
        times = -(-512 // max(image.shape))
        overlay = read(tmp_path / "out" / "overlays" / Path(name).with_suffix(".png"))
        assert overlay.shape == (times * image.shape[0], times * image.shape[1], 3)
        [row] = [row for row in rows if row["case"] == str(Path(name).with_suffix(""))]
        assert (row["volume"], row["unit"]) == ((share >= 0.5).sum(), "pixels")
    slices = table(tmp_path / "out" / "slices.csv")
    assert [row["image"] for row in slices] == ["a.png", "b/c.png", "b/d.tiff", "e.jpg", "f.png"]


def test_real_networks_take_other_sizes_than_they_were_trained_at(workdir, tmp_path):
    for name, size in (("a", (20, 50)), ("b", (70, 33))):
        image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / f"{name}.png"), image)
    for tiles in (False, True):
        predict(workdir, tmp_path / "in", tmp_path / f"out{tiles}", tiles=tiles)
        assert read(tmp_path / f"out{tiles}" / "a_mask.png").shape == (20, 50)
        assert read(tmp_path / f"out{tiles}" / "b_mask.png").shape == (70, 33)


def test_images_of_another_kind_are_named_with_what_the_network_needs(workdir, tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match=r"1 of 1 case .* no others:\ngrey: has 1 channel, and .* trained on 3"):
        predict(workdir, tmp_path / "grey.png", tmp_path / "out")


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "ASR"])
def test_nifti_masks_lie_where_the_image_does_in_any_orientation(by_brightness, tmp_path, orientation):
    """World coordinates of the voxels found are those of the bright voxels, worked out with nibabel alone."""
    rng = np.random.default_rng(3)
    affine = np.array([[0.9, 0.1, 0, -20], [-0.1, 1.2, 0.05, 7], [0, -0.05, 4, 30], [0, 0, 0, 1]])
    original = nibabel.Nifti1Image(rng.uniform(0, 1, (7, 6, 5)).astype(np.float32), affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(orientation)
    )
    image = original.as_reoriented(turn)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "scan.nii.gz")
    [row] = predict(by_brightness, tmp_path / "scan.nii.gz", tmp_path / "out", probabilities=True)
    image = nibabel.load(tmp_path / "scan.nii.gz")
    mask = nibabel.load(tmp_path / "out" / "scan_mask.nii.gz")
    probability = nibabel.load(tmp_path / "out" / "scan_probability.nii.gz")
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.header.get_zooms() == image.header.get_zooms()
    assert nibabel.aff2axcodes(mask.affine) == tuple(orientation)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(image.dataobj) >= 0.5)
    np.testing.assert_array_equal(np.asarray(probability.dataobj), np.asarray(image.dataobj))

    def places(volume, where):
        found = nibabel.affines.apply_affine(where, np.argwhere(volume))
        return found[np.lexsort(found.round(3).T)]

    np.testing.assert_allclose(
        places(np.asarray(mask.dataobj), mask.affine), places(original.get_fdata() >= 0.5, affine), atol=1e-4
    )
    voxel = np.prod(np.linalg.norm(affine[:3, :3], axis=0)) / 1000
    assert row["unit"] == "ml"
    assert row["volume"] == pytest.approx((original.get_fdata() >= 0.5).sum() * voxel, rel=1e-4)


def test_each_format_comes_back_as_itself(by_brightness, tmp_path):
    """Volumes with their geometry; stacks and arrays as one file; whatever holds no mask as PNG."""
    rng = np.random.default_rng(0)
    volume = rng.random((3, 8, 9), np.float32)
    image = SimpleITK.GetImageFromArray(volume)
    image.SetSpacing((0.7, 0.8, 3.1))
    image.SetOrigin((1.1, -2.2, 3.3))
    image.SetDirection([0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1])
    for suffix, back in ((".nrrd", ".nrrd"), (".mha", ".mha"), (".mhd", ".mha"), (".nii.gz", ".nii.gz")):
        SimpleITK.WriteImage(image, tmp_path / f"in{suffix}")
        [row] = predict(by_brightness, tmp_path / f"in{suffix}", tmp_path / suffix, overlays=True)
        mask, whole = (
            SimpleITK.ReadImage(path) for path in (tmp_path / suffix / f"in_mask{back}", f"{tmp_path}/in{suffix}")
        )
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(mask), volume >= 0.5)
        for of in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(mask, of)() == getattr(whole, of)()
        assert row["unit"] == "ml"
        assert len(list((tmp_path / suffix / "overlays" / "in").iterdir())) == 3
    np.save(tmp_path / "in.npy", volume)
    predict(by_brightness, tmp_path / "in.npy", tmp_path / "npy")
    np.testing.assert_array_equal(np.load(tmp_path / "npy" / "in_mask.npy", allow_pickle=False), volume >= 0.5)
    cv2.imwritemulti(str(tmp_path / "in.tif"), list(volume))
    predict(by_brightness, tmp_path / "in.tif", tmp_path / "tif", overlays=True)
    _, pages = cv2.imreadmulti(str(tmp_path / "tif" / "in_mask.tif"), flags=cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(np.stack(pages), (volume >= 0.5) * 255)
    assert [row["image"] for row in table(tmp_path / "tif" / "slices.csv")] == ["", "", ""]
    grey = rng.integers(0, 256, (8, 9), np.uint8)
    for suffix in (".gif", ".bmp"):
        Image.fromarray(grey).save(tmp_path / f"in{suffix}")
        predict(by_brightness, tmp_path / f"in{suffix}", tmp_path / suffix)
        np.testing.assert_array_equal(read(tmp_path / suffix / "in_mask.png"), (grey >= 127.5) * 255)


def test_what_lies_beside_a_series_is_named_in_one_line(by_brightness, tmp_path, capsys):
    write_series(tmp_path / "in" / "one", [make_slice(number, **STUDY) for number in range(3)])
    write_series(
        tmp_path / "in" / "one", [make_slice(9, PixelData=None, Modality="SR", SeriesInstanceUID="1.2")], "r.dcm"
    )
    predict(by_brightness, tmp_path / "in", tmp_path / "out")
    assert "Not read, because they are not of the series: one: 1 of SR (one/r.dcm).\n" in capsys.readouterr().out
    assert (tmp_path / "out" / "one_mask.dcm").exists()


def test_uncompressed_channels_of_a_case_give_an_uncompressed_mask(by_brightness, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_task, "image_channels", lambda workdir, config: 2)
    for number in range(2):
        image = nibabel.Nifti1Image(np.full((4, 4, 3), 0.75 - number, np.float32), np.eye(4))
        nibabel.save(image, tmp_path / f"scan_000{number}.nii")
    predict(by_brightness, tmp_path / "scan_0000.nii", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cases.csv", "scan_mask.nii", "slices.csv"]
    assert np.asarray(nibabel.load(tmp_path / "out" / "scan_mask.nii").dataobj).all()


def test_a_full_disk_leaves_whole_files(by_brightness, tmp_path):
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), rng.integers(0, 256, (256, 256), np.uint8))
    with small_disk(tmp_path / "disk", "64k") as disk:
        predict(by_brightness, tmp_path / "in" / "0.png", disk / "out")
        kept = {path.name: path.read_bytes() for path in (disk / "out").iterdir()}
        (disk / "filler").write_bytes(b"x" * (64 * 1024 - sum(map(len, kept.values())) - 20_000))
        with pytest.raises(StorageError, match=r"_(mask|probability)\.png: .*bytes are needed"):
            predict(by_brightness, tmp_path / "in", disk / "out", overwrite=True, probabilities=True)
        assert all((disk / "out" / name).read_bytes() == data for name, data in kept.items())
        assert not [path for path in (disk / "out").iterdir() if path.name.startswith(".")]


def test_a_missing_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "highdicom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    monkeypatch.delitem(sys.modules, "unet_jax.inference.writers.dicom_masks", raising=False)
    with pytest.raises(InputError, match=r"need the package highdicom: pip install \.\[dicom\]"):
        importlib.import_module("unet_jax.inference.writers.dicom_masks")


def test_a_dicom_folder_gives_a_segmentation_a_series_and_names_those_that_cannot_have_one(by_brightness, tmp_path):
    """Slice n, of value n, is tumour from 1 on; files are called the other way round."""
    write_series(tmp_path / "in" / "one", reversed([make_slice(number, **STUDY) for number in range(4)]))
    write_series(tmp_path / "in" / "two", [make_slice(number) for number in range(3)])
    with pytest.raises(InputError, match=r"1 of 2 cases .*\ntwo: no DICOM segmentation can refer to this series"):
        predict(by_brightness, tmp_path / "in", tmp_path / "out")
    segmentation = pydicom.dcmread(tmp_path / "out" / "one_mask.dcm")
    frames = segmentation.PerFrameFunctionalGroupsSequence
    heights = [frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in frames]
    assert sorted(heights) == [4, 8, 12]
    assert segmentation.pixel_array.all()
    [row] = table(tmp_path / "out" / "cases.csv")
    assert (row["case"], row["patient"], row["unit"]) == ("one", "anna", "ml")
    assert float(row["volume"]) == pytest.approx(3 * 8 * 9 * 4 * 0.5 * 0.75 / 1000)


def test_images_on_another_scale_than_training_are_named(by_brightness, tmp_path, capsys):
    trained = {"types": ["float32"], "channels": [{"low": [0, 2], "median": [3, 4], "high": [9, 10], "width": [8, 9]}]}
    write_json(by_brightness / run_folder.DATA, {"channels": 1, "intensities": trained, "files": {}})
    values = np.linspace(0, 10, 256, dtype=np.float32).reshape(16, 16)
    (tmp_path / "in").mkdir()
    for name, factor in (("same", 1), ("other", 256)):
        Image.fromarray(values * factor).save(tmp_path / "in" / f"{name}.tif")
    predict(by_brightness, tmp_path / "in", tmp_path / "out")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "another scale" in line]
    assert line.startswith("warning: 1 of 2 cases are on another scale of intensities than training (other: the median")
    assert "is 1280 and 98 %" in line
    assert line.endswith("where training had 0 to 10 (float32)): give images on the scale of training.")


@pytest.mark.parametrize("kind", ["float32.nii", "float32.nii.gz", "scaled.nii.gz", "stretched.nii"])
def test_a_volume_is_predicted_in_the_memory_of_two_and_a_half(kind, by_brightness, tmp_path, monkeypatch):
    if kind == "stretched.nii":
        config = read_config(by_brightness)
        config.data.intensity = "auto"
        config.eval.postprocess.minimum_voxels = 2
        write_json(by_brightness / run_folder.CONFIG, as_json(config.to_dict()))
    # A bright ball in noise.
    voxels = np.random.default_rng(0).uniform(0, 0.4, (96, 128, 160)).astype(np.float32)
    places = np.ogrid[-48:48, -64:64, -80:80]
    voxels[sum(place**2 for place in places) < 30**2] += 0.6
    image = nibabel.Nifti1Image(voxels, np.diag([1, 1, 2, 1]))
    if kind == "scaled.nii.gz":
        image.set_data_dtype(np.int16)
    (tmp_path / "in").mkdir()
    nibabel.save(image, tmp_path / "in" / f"head_{kind}")
    if kind == "float32.nii":  # the first is not held while the second is read
        nibabel.save(image, tmp_path / "in" / f"other_{kind}")
    monkeypatch.setattr(segment, "LARGE", 2**22)
    del image
    predict(by_brightness, tmp_path / "in", tmp_path / "before")  # imports
    tracemalloc.start()
    try:
        predict(by_brightness, tmp_path / "in", tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * voxels.nbytes, f"{peak / voxels.nbytes:.2f} times the volume"

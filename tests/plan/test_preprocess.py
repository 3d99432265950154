import dataclasses
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from nnunet_answers import data_set, unpack_raw
from nnunet_arrays import answers, arrays, part, plans_of, write_plans
from scipy import ndimage

from unet_jax.plan import preprocess, restore
from unet_jax.plan.dataset import from_json
from unet_jax.plan.resample import Resampling

CASES = {"real_iso_mri": "iso_1", "real_aniso_2ch_mask": "an_1"}
CHECK = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}, "numTraining": 1, "file_ending": ".nii.gz"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return unpack_raw(tmp_path_factory.mktemp("raw"))


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
@pytest.mark.parametrize("name", CASES)
def test_the_command_as_nnunet(name, configuration, folder, tmp_path, capsys):
    out = tmp_path / "case.npz"
    arguments = [str(folder / name), str(write_plans(tmp_path, name)), configuration, CASES[name], str(out)]
    assert preprocess.main(arguments) == 0
    assert CASES[name] in capsys.readouterr().out
    golden, found = arrays(name), dict(np.load(out))
    np.testing.assert_allclose(part(found["data"]), golden["data"], rtol=0, atol=1e-5)
    assert found["seg"].dtype == golden["seg"].dtype
    np.testing.assert_array_equal(found["seg"], golden["seg"])
    locations = {key for key in golden if key.startswith("cl_")}
    assert found.keys() == {"data", "seg", "properties"} | locations
    for key in locations:
        np.testing.assert_array_equal(found[key], golden[key])
    assert json.loads(str(found["properties"])) == answers()[name]


@pytest.mark.parametrize("name", CASES)
def test_without_a_mask_as_nnunet(name, folder, tmp_path):
    plans, golden = plans_of(tmp_path, name), arrays(name)
    dataset = preprocess.read_dataset(folder / name / "dataset.json")
    case, _ = preprocess.raw.read(preprocess.raw.find(folder / name, dataset, CASES[name]), dataset)
    found = preprocess.preprocess(case.image, None, case.spacing, plans, plans.configurations["3d_fullres"])
    np.testing.assert_array_equal(found.mask, golden["seg_without_label"][0])
    np.testing.assert_allclose(part(np.moveaxis(found.image, -1, 0)), golden["data"], rtol=0, atol=1e-5)


def test_low_resolution_ct_as_nnunet(tmp_path):
    plans, golden = plans_of(tmp_path, "real_cascade"), arrays("real_cascade")
    image, mask = golden["image"][..., None], golden["mask"]
    spacing = tuple(float(np.float32(n)) for n in (1, 0.9, 0.9))
    low = preprocess.preprocess(image, mask, spacing, plans, plans.configurations["3d_lowres"])
    np.testing.assert_allclose(part(np.moveaxis(low.image, -1, 0)), golden["lowres_data"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(low.mask, golden["lowres_seg"][0])
    full = preprocess.preprocess(image, mask, spacing, plans, plans.configurations["3d_fullres"])
    np.testing.assert_array_equal(full.mask, golden["fullres_seg"][0])
    middle = full.image[len(full.image) // 2, ..., 0]
    np.testing.assert_allclose(middle, golden["fullres_data_mid_slice"][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(25))
def test_there_and_back_is_the_same_geometry(seed, tmp_path):
    """A ball in a case of random size, spacing, margins and order of axes."""
    rng = np.random.default_rng(seed)
    shape, spacing = tuple(rng.integers(12, 40, 3).tolist()), tuple(rng.uniform(0.5, 4, 3).tolist())
    image = np.zeros((*shape, 1), np.float32)
    box = tuple(slice(int(rng.integers(0, 4)), n - int(rng.integers(0, 4))) for n in shape)
    image[box] = rng.uniform(1, 2, image[box].shape)
    centre = [part.start + (part.stop - part.start) / 2 for part in box]
    distance = sum(((at - middle) / n) ** 2 for at, middle, n in zip(np.indices(shape), centre, shape, strict=True))
    mask = ((distance < 0.06) & (image[..., 0] > 0)).astype(np.uint8)

    plans, dataset = plans_of(tmp_path, "real_iso_mri"), from_json(CHECK, "Dataset001_X")
    order = tuple(rng.permutation(3).tolist())
    plans = dataclasses.replace(plans, transpose_forward=order)
    for same in (True, False):
        target = [spacing[axis] for axis in order] if same else rng.uniform(0.5, 2.5, 3).tolist()
        axes = 3 if same else int(rng.integers(2, 4))
        configuration = dataclasses.replace(plans.configurations["3d_fullres"], spacing=tuple(target[-axes:]))
        found = preprocess.preprocess(image, mask, spacing, plans, configuration)
        assert found.image.shape[:3] == found.mask.shape
        assert [part.stop - part.start for part in box] == [found.geometry.cropped[order.index(at)] for at in range(3)]
        logits = np.stack([found.mask != 1, found.mask == 1], axis=-1).astype(np.float32)
        back = restore.to_mask(logits, found.geometry, plans, configuration, dataset)
        assert back.shape == shape
        if same:
            np.testing.assert_array_equal(back, mask)
        else:
            moved = np.argwhere(back).mean(axis=0) - np.argwhere(mask).mean(axis=0)
            assert np.abs(moved).max() < 1


def plainly(image, mask, spacing, order, target, ct):
    """The rules for CT as one would write them down, on arrays [d, h, w]; slices are thick and of the first axis."""

    def zoomed(array, shape, order):
        factors = [m / n for n, m in zip(array.shape, shape, strict=True)]
        return ndimage.zoom(array.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)

    image, mask = image.transpose(order), mask.transpose(order).astype(np.int8)
    spacing = [spacing[axis] for axis in order]
    box = tuple(slice(at.min(), at.max() + 1) for at in np.nonzero(image))
    image, mask = image[box], mask[box]
    mask[(mask == 0) & ~ndimage.binary_fill_holes(image != 0)] = -1
    image = (np.clip(image, ct.percentile_00_5, ct.percentile_99_5) - ct.mean) / ct.std
    shape = [round(n * old / new) for n, old, new in zip(image.shape, spacing, target, strict=True)]
    rows = np.clip(np.floor((np.arange(shape[0]) + 0.5) * len(image) / shape[0]), 0, len(image) - 1).astype(int)
    slices = np.stack([np.clip(zoomed(each, shape[1:], 3), each.min(), each.max()) for each in image])
    labels = np.unique(mask)
    shares = np.stack([[zoomed(each == label, shape[1:], 1) for each in mask] for label in labels])
    return slices[rows], labels[shares.argmax(axis=0)][rows]


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_thick_slices_of_the_last_axis(configuration, tmp_path):
    rng = np.random.default_rng(3)
    plans = plans_of(tmp_path, "real_cascade")
    plans = dataclasses.replace(plans, transpose_forward=(2, 0, 1))
    image = np.pad(rng.integers(-50, 400, (23, 31, 9)).astype(np.int16), [(2, 1), (0, 3), (1, 0)])
    mask = ndimage.uniform_filter(rng.random(image.shape), 3).argsort(axis=None).reshape(image.shape) % 3
    mask = (mask * (image != 0)).astype(np.uint8)
    spacing = (0.8, 0.9, 4.0)
    target = (4.0, 1.07, 0.71) if configuration == "2d" else (2.9, 1.07, 0.71)
    chosen = dataclasses.replace(
        plans.configurations[configuration], spacing=target[-2 if configuration == "2d" else 0 :]
    )
    found = preprocess.preprocess(image[..., None], mask, spacing, plans, chosen)
    expected, labels = plainly(image, mask, spacing, (2, 0, 1), target, plans.intensities[0])
    np.testing.assert_allclose(found.image[..., 0], expected, rtol=0, atol=1e-5)
    # Exact ties apart, which test_resize.py is about.
    assert (found.mask == labels).mean() > 0.999


def test_switched_off_resampling_keeps_the_voxels(tmp_path):
    plans = plans_of(tmp_path, "real_iso_mri")
    off = Resampling(3, enabled=False)
    configuration = dataclasses.replace(
        plans.configurations["3d_fullres"], spacing=(9.0, 9.0, 9.0), images=off, masks=off
    )
    found = preprocess.preprocess(np.ones((5, 6, 7, 1), np.float32), None, (1.0, 1.0, 1.0), plans, configuration)
    assert found.image.shape == (5, 6, 7, 1)


def test_colour_pictures_of_an_old_dataset(tmp_path):
    """RGB files, with the key of nnU-Net's first version; intensities from 0 to 1, resampled in the plane alone."""
    rng = np.random.default_rng(0)
    image, mask = rng.integers(1, 256, (20, 30, 3), np.uint8), rng.integers(0, 2, (20, 30), np.uint8)
    for name, pixels in (("imagesTr/p_0000", image[..., ::-1]), ("labelsTr/p", mask)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    description = data_set("rgb_png_1500")["dataset"] | {"numTraining": 1}
    description["modality"] = description.pop("channel_names")
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    plans = data_set("rgb_png_1500")["plans"]["ExperimentPlanner"]
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    out = tmp_path / "p.npz"
    assert preprocess.main([*(str(tmp_path / name) for name in ("", "plans.json")), "2d", "p", str(out)]) == 0
    found = dict(np.load(out))
    np.testing.assert_allclose(found["data"], image.transpose(2, 0, 1)[:, None] / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(found["seg"], mask[None, None])
    assert found["cl_1"].shape == (mask.sum(), 4)
    assert json.loads(str(found["properties"]))["spacing"] == [999, 1, 1]


def test_a_faulty_call_is_one_line(folder, tmp_path):
    name = "real_iso_mri"
    arguments = [folder / name, write_plans(tmp_path, name), "3d_fullres", "iso_9", tmp_path / "out.npz"]
    command = [sys.executable, "-m", "unet_jax.plan.preprocess", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: iso_9 is not one of the 5 cases of ")
    assert not (tmp_path / "out.npz").exists()


def test_an_unknown_configuration(folder, tmp_path, capsys):
    name = "real_iso_mri"
    arguments = [str(folder / name), str(write_plans(tmp_path, name)), "3d_full", "iso_1", str(tmp_path / "out.npz")]
    assert preprocess.main(arguments) == 2
    assert "no configuration '3d_full': choose one of 2d, 3d_fullres" in capsys.readouterr().err

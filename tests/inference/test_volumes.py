import dataclasses
import itertools
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nnunet_arrays import arrays, part, plans_of

from unet_jax.errors import InputError
from unet_jax.inference.averaged import averaged
from unet_jax.inference.volumes import VolumeSettings, segment_case, volume_logits
from unet_jax.plan import restore, windows
from unet_jax.plan.dataset import from_json
from unet_jax.plan.preprocess import Geometry
from unet_jax.plan.resample import Resampling
from unet_jax.runtime.mesh import by_batch, data_mesh

ONE_DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])
# The window of nnU-Net's answers for sliding windows.
WINDOW = (8, 10, 12)


def dataset(labels, order=None):
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    return from_json(description | ({} if order is None else {"regions_class_order": order}), "Dataset001_X")


TWO = dataset({"background": 0, "a": 1})
THREE = dataset({"background": 0, "a": 1, "b": 2})
REGIONS = dataset({"background": 0, "whole": [1, 2], "core": [2], "rest": [3]}, order=[3, 1, 2])


@jax.jit
def itself(image):
    """A network whose logits are the image's channels."""
    return image + 0.0


def changed(plans, configuration, patch, **values):
    """The plan with another patch, and the like."""
    return dataclasses.replace(plans.configurations[configuration], patch_size=patch, **values)


def stand_in():
    """The network of nnU-Net's answers for sliding windows, and the image."""
    golden = arrays("sliding_window")

    @jax.jit
    def network(image):
        found = jax.lax.conv_general_dilated(
            jnp.moveaxis(image, -1, 1), golden["weight"], (1, 1, 1), "SAME", precision=jax.lax.Precision.HIGHEST
        )
        return jnp.tanh(jnp.moveaxis(found, 1, -1) + golden["bias"])

    return network, np.moveaxis(golden["image"], 0, -1), golden


@pytest.mark.parametrize("gaussian", [0, 1])
@pytest.mark.parametrize("mirrored", [0, 1])
def test_sliding_windows_as_nnunet(gaussian, mirrored, tmp_path):
    network, image, golden = stand_in()
    axes = (0, 1, 2) if mirrored else ()
    expected = np.moveaxis(golden[f"logits_mirror{mirrored}_gauss{gaussian}"], 0, -1)
    settings = VolumeSettings(5, ONE_DEVICE, axes, gaussian=bool(gaussian))
    configuration = changed(plans_of(tmp_path, "real_cascade"), "3d_fullres", WINDOW)
    found = volume_logits(network, image, configuration, settings)
    assert found.dtype == np.float32

    # nnU-Net sums in half precision; done here the same way, its answers come out.
    weights = windows.in_half_precision(windows.importance(WINDOW)) if gaussian else np.ones(WINDOW, np.float16)
    margins = windows.centred(image.shape[:3], WINDOW)
    padded = np.pad(image, [*margins, (0, 0)])
    inner = tuple(slice(before, before + n) for n, (before, _) in zip(image.shape[:3], margins, strict=True))
    sums, total = np.zeros((*padded.shape[:3], 3), np.float16), np.zeros(padded.shape[:3], np.float16)
    for corner in itertools.product(*windows.starts(padded.shape[:3], WINDOW)):
        place = tuple(slice(start, start + n) for start, n in zip(corner, WINDOW, strict=True))
        answer = np.asarray(averaged([network], axes)(jnp.asarray(padded[place][None])))[0]
        sums[place] = sums[place] + answer * weights[..., None].astype(np.float32)
        total[place] += weights
    np.testing.assert_allclose((sums / total[..., None])[inner].astype(np.float32), expected, rtol=0, atol=5e-4)

    # What half precision leaves of the logits of voxels that are more than a window's corner.
    normal = total[inner] > 1e-2
    error = np.abs(found - expected)[normal]
    assert normal.mean() > 0.7
    assert error.max() < 1.3e-3
    assert (error < 1e-3).mean() > 0.99


def test_thick_slices_as_nnunet(tmp_path):
    plans, golden = plans_of(tmp_path, "real_aniso_2ch_mask"), arrays("real_aniso_2ch_mask")
    geometry = Geometry(
        (3.200000047683716, 0.8999999761581421, 0.8999999761581421), (11, 50, 46), ((1, 10), (9, 41), (10, 38))
    )
    logits = np.moveaxis(golden["logits"], 0, -1)
    for name, patch in (("3d_fullres", (4, 16, 16)), ("2d", (16, 20))):
        given = logits, geometry, plans, changed(plans, name, patch), TWO, VolumeSettings(3, ONE_DEVICE)
        mask, probability = segment_case(itself, *given, keep_probabilities=True)
        assert mask.dtype == golden["exported_seg"].dtype
        np.testing.assert_array_equal(mask, golden["exported_seg"])
        np.testing.assert_allclose(part(np.moveaxis(probability, -1, 0)), golden["exported_prob"], rtol=0, atol=3e-4)


def check_like_restore(logits, geometry, plans, configuration, of, settings):
    """Asserts what `plan.restore` makes of the whole logits, ties aside."""
    given = geometry, plans, configuration, of
    mask, probability = segment_case(itself, logits, *given, settings, keep_probabilities=True)
    expected = restore.to_probabilities(logits, *given)
    assert mask.shape == probability.shape[:3]
    assert mask.flags.c_contiguous
    np.testing.assert_allclose(probability, expected, rtol=0, atol=1e-5)
    if of.regions is None:
        two = np.sort(expected, axis=-1)[..., -2:]
        clear = two[..., 1] - two[..., 0] > 1e-5
    else:
        clear = (np.abs(expected - 0.5) > 1e-5).all(axis=-1)
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(mask[clear], restore.to_mask(logits, *given)[clear])
    np.testing.assert_array_equal(segment_case(itself, logits, *given, settings)[0], mask)
    np.testing.assert_allclose(volume_logits(itself, logits, configuration, settings), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_any_geometry_as_on_the_host(seed, tmp_path):
    random = np.random.default_rng(seed)
    of = (TWO, THREE, REGIONS)[seed % 3]
    axes = 2 if seed % 4 == 3 else 3
    shape = tuple(random.integers(3, 40, 3).tolist())
    cropped = shape if seed % 5 == 4 else tuple(random.integers(3, 48, 3).tolist())
    before = random.integers(0, 4, 3)
    whole = tuple((before + cropped + random.integers(0, 4, 3)).tolist())
    box = tuple(zip(before.tolist(), (before + cropped).tolist(), strict=True))
    plans = plans_of(tmp_path, "real_cascade")
    plans = dataclasses.replace(plans, transpose_forward=tuple(random.permutation(3).tolist()))
    # A third of the cases have thick slices, along any axis.
    spacing = random.uniform(0.5, 1.2, 3) * np.where(np.arange(3) == random.integers(9), 6, 1)
    configuration = changed(
        plans,
        "2d" if axes == 2 else "3d_fullres",
        tuple(random.integers(4, 24, axes).tolist()),
        spacing=tuple(spacing[-axes:].tolist()),
        logits=Resampling(order=int(random.integers(2)), order_z=int(random.integers(2))),
    )
    geometry = Geometry(tuple(random.uniform(0.5, 1.2, 3).tolist()), whole, box)
    logits = random.normal(size=(*shape, of.outputs)).astype(np.float32)
    settings = VolumeSettings(int(random.integers(1, 9)), ONE_DEVICE, step=random.uniform(0.3, 1))
    check_like_restore(logits, geometry, plans, configuration, of, settings)


def plain(shape, patch, of, tmp_path, **values):
    """Geometry, plan, configuration and data set of cases that are neither cropped nor resampled."""
    plans = plans_of(tmp_path, "real_cascade")
    geometry = Geometry((1.0, 1.0, 1.0), shape, tuple((0, n) for n in shape))
    return geometry, plans, changed(plans, "3d_fullres", patch, spacing=(1.0, 1.0, 1.0), **values), of


def test_cubic_logits_are_restored_on_the_host(tmp_path):
    logits = np.random.default_rng(0).normal(size=(9, 10, 11, 3)).astype(np.float32)
    geometry, plans, configuration, _ = plain((12, 9, 14), (4, 8, 8), THREE, tmp_path, logits=Resampling(order=3))
    check_like_restore(logits, geometry, plans, configuration, THREE, VolumeSettings(2, ONE_DEVICE))


def test_the_logits_of_folds_are_averaged(tmp_path):
    logits = np.random.default_rng(0).normal(size=(9, 10, 11, 3)).astype(np.float32)
    configuration = plain((9, 10, 11), (4, 8, 8), THREE, tmp_path)[2]
    folds = [itself, jax.jit(lambda image: 3 * image), jax.jit(lambda image: 1 - image)]
    found = volume_logits(folds, logits, configuration, VolumeSettings(2, ONE_DEVICE, (0, 2)))
    np.testing.assert_allclose(found, (3 * logits + 1) / 3, rtol=0, atol=1e-5)


def test_a_batch_on_several_devices(tmp_path):
    logits = np.random.default_rng(0).normal(size=(9, 10, 11, 3)).astype(np.float32)
    mesh = data_mesh()
    settings = VolumeSettings(2 * mesh.size, by_batch(mesh))
    check_like_restore(logits, *plain((9, 10, 11), (4, 8, 8), THREE, tmp_path), settings)


def test_one_program_a_patch_size(tmp_path):
    shapes = []

    @jax.jit
    def network(image):
        shapes.append(image.shape)
        return image + 0.0

    for shape in ((9, 10, 11), (30, 20, 3), (4, 4, 4)):
        logits = np.zeros((*shape, 3), np.float32)
        segment_case(network, logits, *plain(shape, (4, 8, 8), THREE, tmp_path), VolumeSettings(5, ONE_DEVICE))
    assert set(shapes) == {(5, 4, 8, 8, 3)}


def test_a_network_of_other_outputs(tmp_path):
    logits = np.zeros((4, 4, 4, 2), np.float32)
    with pytest.raises(InputError, match=r"there are 2 channels of logits, and dataset.json asks for 3"):
        segment_case(itself, logits, *plain((4, 4, 4), (4, 4, 4), THREE, tmp_path), VolumeSettings(1, ONE_DEVICE))


def labelled(classes):
    return dataset({"background": 0} | {f"structure {number}": number for number in range(1, classes)})


def steps_of(classes):
    """A network whose largest logit is the one next to the intensity."""
    numbers = np.arange(classes, dtype=np.float32)
    return jax.jit(lambda image: image * numbers - numbers**2 / 2)


def test_classes_take_no_memory_of_the_host(tmp_path):
    image = np.random.default_rng(0).uniform(0, 3, (64, 96, 96, 1)).astype(np.float32)
    peaks = []
    for classes in (4, 32):
        given = (
            *plain(image.shape[:3], (32, 32, 32), labelled(classes), tmp_path),
            VolumeSettings(1, ONE_DEVICE, step=1.0),
        )
        network = steps_of(classes)
        segment_case(network, image, *given)
        tracemalloc.start()
        mask, _ = segment_case(network, image, *given)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        np.testing.assert_array_equal(mask, np.rint(image[..., 0]))
    # What numpy and Python hold: the mask and a batch of windows. What XLA does is the device's, here as elsewhere.
    assert peaks[1] < mask.nbytes + image.nbytes / 2
    # One or two windows more may be under way.
    assert abs(peaks[1] - peaks[0]) < 2.5 * 4 * 32**3


MEMORY = """
import pathlib, re
import jax
import numpy as np
import test_volumes
from unet_jax.runtime.host_memory import give_back

def memory(key):
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\\s+(\\d+)", status)[1]) * 1024

random, network, of = np.random.default_rng(0), test_volumes.steps_of(32), test_volumes.labelled(32)
settings = test_volumes.VolumeSettings(1, test_volumes.ONE_DEVICE, step=1.0)
# The first case compiles what the second one runs.
for depth in (24, 400):
    image = random.uniform(0, 31, (depth, 192, 192, 1)).astype(np.float32)
    given = test_volumes.plain(image.shape[:3], (8, 64, 64), of, pathlib.Path(FOLDER))
    give_back()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is the present again
    before = memory("VmRSS")
    mask, _ = test_volumes.segment_case(network, image, *given, settings)
peak = memory("VmHWM")  # before the comparison, which takes a volume of its own
assert (mask == np.rint(image[..., 0])).mean() > 0.999
print((peak - before - mask.nbytes) / image.nbytes + 1)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process its peak")
def test_peak_memory_of_a_volume_of_32_classes(tmp_path):
    # The image itself, and on a CPU the device's sums: 8 slices of 400, of 32 classes, are 0.64 volumes. Windows under
    # way, and XLA's threads, take 25 MB more or less, which the volume of 59 MB leaves room for.
    script = MEMORY.replace("FOLDER", repr(str(tmp_path)))
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here, here.parent, here.parents[1])))
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert float(done.stdout) < 2.5


def test_a_threshold_is_applied_slab_by_slab_without_whole_probabilities(tmp_path):
    """Outside of the cropped box nothing is marked, whatever the threshold."""
    logits = np.random.default_rng(0).normal(0, 2, (9, 11, 10, 2)).astype(np.float32)
    given = logits, *plain((9, 11, 10), (4, 4, 4), labelled(2), tmp_path), VolumeSettings(1, ONE_DEVICE)
    _, probability = segment_case(itself, *given, keep_probabilities=True)
    for threshold in (0.1, 0.5, 0.93):
        mask, nothing = segment_case(itself, *given, threshold=threshold)
        assert nothing is None
        np.testing.assert_array_equal(mask, probability[..., 1] >= threshold)

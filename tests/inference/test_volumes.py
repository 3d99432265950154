import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nnunet_arrays import arrays, part, plans_of

from unet_jax.inference.averaged import averaged
from unet_jax.inference.volumes import VolumeSettings, segment_case, volume_logits
from unet_jax.plan import restore, windows
from unet_jax.plan.dataset import from_json
from unet_jax.plan.preprocess import Geometry
from unet_jax.plan.resample import Resampling

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
    padded, inner = windows.pad(image, WINDOW)
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

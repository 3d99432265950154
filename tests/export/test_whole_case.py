import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nnunet_arrays import plans_of

from unet_jax.data.case import Case
from unet_jax.export.whole_case import Part, program, resample
from unet_jax.inference.segment import segment_stream
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.windows import Wanted
from unet_jax.plan import run_plan
from unet_jax.plan.resample import IMAGES, Resampling, resample_image
from unet_jax.plan.run_plan import RunPlan
from unet_jax.runtime.mesh import by_batch, data_mesh

SHAPE = (13, 17, 15)
# Of classes that are three voxels wide and more, in a network of nothing but a convolution.
RNG = np.random.default_rng(3)
KERNEL = RNG.normal(0, 0.3, (3, 3, 3, 2, 3)).astype(np.float32)


@jax.jit
def neighbourhood(image):
    """A network of one convolution; of slices, it has the middle one of its kernels."""
    kernel = KERNEL if image.ndim == 5 else KERNEL[1]
    axes = ("NDHWC", "DHWIO", "NDHWC") if image.ndim == 5 else ("NHWC", "HWIO", "NHWC")
    return jnp.tanh(
        jax.lax.conv_general_dilated(
            image, kernel, (1,) * (image.ndim - 2), "SAME", dimension_numbers=axes, precision=jax.lax.Precision.HIGHEST
        )
    )


@jax.jit
def pointwise(image):
    """A network that sees a voxel alone, and does not care where windows lie."""
    return jnp.dot(image, KERNEL[1, 1, 1], precision=jax.lax.Precision.HIGHEST)


def images(shape=SHAPE):
    """Two channels, smooth enough for the classes to have an extent, of a scanner's range."""
    coarse = RNG.normal(size=(*(n // 3 + 1 for n in shape), 2)).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    return (300 + 90 * coarse[: shape[0], : shape[1], : shape[2]] + RNG.normal(0, 9, (*shape, 2))).astype(np.float32)


def part_of(
    tmp_path, network=neighbourhood, patch=(8, 10, 12), classes=("a", "b"), mirror=(), order=(0, 1, 2), **values
):
    plans = plans_of(tmp_path, "real_cascade")
    name = "2d" if len(patch) == 2 else "3d_fullres"
    spacing = values.pop("spacing", (1.0, 1.0, 1.0)[-len(patch) :])
    values = {"normalisation": ("zscore", "ct"), "inside_only": (False, False)} | values
    configuration = dataclasses.replace(plans.configurations[name], patch_size=patch, spacing=spacing, **values)
    plans = dataclasses.replace(
        plans,
        transpose_forward=order,
        intensities=plans.intensities * 2,
        configurations={**plans.configurations, name: configuration},
    )
    plan = RunPlan(plans, name, run_plan.describe(["x", "y"], classes))
    return Part(network, SegmentSettings(2, 0.5, by_batch(data_mesh()), mirror_axes=mirror, plan=plan))


def both(part, image, spacing=(1.0, 1.0, 1.0)):
    """What the program finds, and what predict does: masks and probabilities."""
    wanted = Wanted(0, Case("a", "a", image, None, spacing), np.arange(len(image)))
    [expected] = segment_stream(part.logits, [wanted], part.settings, keep_probabilities=True)
    mask, probability = jax.jit(program([part], image.shape[:3], spacing))(image)
    return np.asarray(mask), np.asarray(probability), expected


def assert_equal(part, image, spacing=(1.0, 1.0, 1.0)):
    mask, probability, expected = both(part, image, spacing)
    np.testing.assert_allclose(probability, expected.probability, rtol=0, atol=2e-5)
    assert mask.dtype == expected.mask.dtype
    assert np.mean(mask != expected.mask) < 2e-3
    assert len(np.unique(mask)) > 1


@pytest.mark.parametrize(
    ("spacing", "values"),
    [
        pytest.param((1.0, 1.0, 1.0), {}, id="as it is"),
        pytest.param((1.3, 0.8, 1.1), {}, id="resampled"),
        pytest.param((4.0, 0.8, 1.1), {}, id="thick slices"),
        pytest.param((0.9, 1.1, 5.0), {"order": (2, 0, 1)}, id="axes in another order"),
        pytest.param((0.5, 0.5, 0.5), {"patch": (12, 12, 12)}, id="smaller than a patch"),
        pytest.param((3.0, 1.2, 0.9), {"patch": (10, 8)}, id="slices"),
        pytest.param((1.0, 1.2, 0.9), {"mirror": (0, 2)}, id="mirrored"),
        pytest.param((1.0, 1.2, 0.9), {"mirror": (1,), "patch": (10, 8)}, id="slices, mirrored"),
        pytest.param((1.2, 1.2, 0.9), {"logits": Resampling(order=3)}, id="cubic logits"),
        pytest.param((1.2, 1.2, 0.9), {"images": Resampling(3, enabled=False)}, id="not resampled"),
    ],
)
def test_a_whole_case_is_segmented_as_predict_does(spacing, values, tmp_path):
    if "images" in values:
        values |= {"logits": Resampling(1, enabled=False), "masks": Resampling(1, enabled=False)}
    assert_equal(part_of(tmp_path, **values), images(), spacing)


@pytest.mark.parametrize("schemes", [("zscore", "rescale"), ("ct", "none"), ("rgb", "zscore")])
@pytest.mark.parametrize("inside", [False, True])
def test_intensities_are_those_of_the_box_or_of_the_body(schemes, inside, tmp_path):
    """In the body, a hole is inside; a gap that reaches the border is not."""
    image = np.clip(images() / 3, 1, 250)
    image[:3], image[:, -4:] = 0, 0
    image[6:8, 6:8, 6:8] = 0
    image[9, 5:, 5:8] = 0
    part = part_of(tmp_path, pointwise, normalisation=schemes, inside_only=(inside, inside))
    mask, probability, expected = both(part, image)
    np.testing.assert_allclose(probability, expected.probability, rtol=0, atol=2e-5)
    assert (mask[:3] == 0).all()
    assert np.mean(mask != expected.mask) < 2e-3


def test_an_image_of_nothing_is_kept_whole(tmp_path):
    mask, probability, expected = both(part_of(tmp_path), np.zeros((*SHAPE, 2), np.float32))
    np.testing.assert_allclose(probability, expected.probability, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(mask, expected.mask)


def test_the_mean_of_a_large_range_keeps_its_digits(tmp_path):
    """Float32 has seven digits, of which an offset of 30,000 takes five."""
    assert_equal(part_of(tmp_path, normalisation=("zscore", "zscore")), images((40, 60, 50)) + np.float32(30000))


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_one_class_has_a_threshold(threshold, tmp_path):
    def binary(image):
        logits = neighbourhood(image)[..., :1]
        return jnp.concatenate([jnp.zeros_like(logits), logits], -1)

    part = part_of(tmp_path, jax.jit(binary), classes=())
    part = dataclasses.replace(part, settings=dataclasses.replace(part.settings, threshold=threshold))
    image = images()
    assert_equal(part, image)
    mask, probability, _ = both(part, image)
    assert probability.shape == SHAPE
    np.testing.assert_array_equal(mask, probability >= threshold)


def test_configurations_are_averaged(tmp_path):
    parts, image = [part_of(tmp_path), part_of(tmp_path, patch=(10, 8))], images()
    mask, probability = jax.jit(program(parts, SHAPE, (1.0, 1.0, 1.0)))(image)
    mean = sum(both(part, image)[2].probability for part in parts) / 2
    np.testing.assert_allclose(probability, mean, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(mask, np.argmax(probability, -1))


@pytest.mark.parametrize(
    ("shape", "spacing", "target", "how"),
    [
        ((10, 21, 12), (1.0, 1.0, 1.0), (0.8, 1.5, 1.1), IMAGES),
        ((10, 21, 12), (4.0, 1.0, 1.0), (4.0, 1.5, 1.1), IMAGES),
        ((10, 12, 21), (1.0, 1.0, 5.0), (1.0, 1.0, 2.0), Resampling(3, order_z=1)),
        ((10, 21, 12), (1.0, 1.0, 1.0), (0.8, 1.5, 1.1), Resampling(0)),
    ],
)
def test_resampling_is_the_plans(shape, spacing, target, how):
    volume = RNG.normal(size=(9, 14, 13, 2)).astype(np.float32)
    found = resample(jnp.asarray(volume), shape, spacing, target, how)
    np.testing.assert_allclose(found, resample_image(volume, shape, spacing, target, how), rtol=0, atol=1e-5)

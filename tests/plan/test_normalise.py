import numpy as np
import pytest

from unet_jax.errors import InputError
from unet_jax.plan.intensities import Intensities
from unet_jax.plan.normalise import normalise

CT = Intensities(max=300.0, mean=100.0, median=90.0, min=-50.0, percentile_00_5=-20.0, percentile_99_5=220.0, std=40.0)


def one(scheme, values, *, inside_only=False, mask=None):
    image = np.array(values, np.float32).reshape(1, 1, -1, 1)
    mask = np.zeros(image.shape[:3], np.int8) if mask is None else np.array(mask, np.int8).reshape(image.shape[:3])
    return normalise(image, mask, [scheme], [inside_only], [CT]).ravel().tolist()


@pytest.mark.parametrize(
    ("scheme", "values", "expected"),
    [
        ("zscore", [1, 2, 3], [-(1.5**0.5), 0, 1.5**0.5]),
        ("zscore", [7, 7], [0, 0]),
        ("ct", [-1000, -20, 100, 140, 220, 3000], [-3, -3, 0, 1, 3, 3]),
        ("rescale", [-2, 0, 2], [0, 0.5, 1]),
        ("rescale", [5, 5], [0, 0]),
        ("rgb", [0, 51, 255], [0, 0.2, 1]),
        ("none", [-4, 9], [-4, 9]),
    ],
)
def test_schemes(scheme, values, expected):
    np.testing.assert_allclose(one(scheme, values), expected, rtol=1e-6)


def test_the_outside_stays_as_it_was():
    assert one("zscore", [0, 10, 30, 0], inside_only=True, mask=[-1, 1, 0, -1]) == [0, -1, 1, 0]
    assert one("zscore", [0, 0], inside_only=True, mask=[-1, -1]) == [0, 0]


def test_a_large_mean_costs_no_digits():
    values = 1e6 + np.arange(1000)
    np.testing.assert_allclose(one("zscore", values), (values - values.mean()) / values.std(), atol=1e-6)


def test_the_image_is_not_changed():
    image = np.ones((1, 2, 2, 1), np.float32)
    normalise(image, np.zeros((1, 2, 2), np.int8), ["zscore"], [False], [CT])
    assert (image == 1).all()


def test_what_is_not_8_bit():
    with pytest.raises(InputError, match="channel 0 has values from 0 to 256, and the plan takes it for 8-bit"):
        one("rgb", [0, 256])


def test_another_number_of_channels():
    with pytest.raises(InputError, match="the image has 2 channels, and the plan 1"):
        normalise(np.ones((1, 1, 1, 2)), np.zeros((1, 1, 1), np.int8), ["none"], [False], [CT])

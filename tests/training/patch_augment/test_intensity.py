import jax
import jax.numpy as jnp
import numpy as np
import pytest
from patch_transforms import assert_share, golden, part

from unet_jax.training.patch_augment import intensity
from unet_jax.training.patch_augment.settings import Chance

KEY = jax.random.key(0)
IMAGE = jax.random.normal(jax.random.key(1), (3, 4, 5, 2))


def _many(transform, count=2000):
    """The image transformed by so many keys."""
    return np.asarray(jax.jit(jax.vmap(lambda key: transform(key, IMAGE)))(jax.random.split(KEY, count)))


def test_contrast_is_nnunets():
    found = intensity.contrast(golden("im3"), jnp.full(2, 1.25))
    np.testing.assert_allclose(part(found), golden("contrast_1.25"), atol=1e-5)


@pytest.mark.parametrize("exponent", [0.7, 1.5])
@pytest.mark.parametrize("sign", [1, -1])
def test_gamma_is_nnunets(exponent, sign):
    found = sign * intensity.gamma(sign * golden("im3"), jnp.full(2, exponent))
    np.testing.assert_allclose(part(found), golden(f"gamma_{exponent}_inv{int(sign < 0)}"), atol=1e-5)


def test_inverted_gamma_is_gamma_of_the_negated_image():
    chance = Chance(1.0, (1.3, 1.3))
    found = intensity.random_gamma(KEY, IMAGE, chance, inverted=True)
    np.testing.assert_allclose(found, -intensity.gamma(-IMAGE, jnp.full(2, 1.3)), atol=1e-6)


def test_gamma_of_a_constant_channel_is_finite():
    np.testing.assert_array_equal(intensity.gamma(jnp.full((2, 2, 2, 1), 3.0), jnp.full(1, 1.5)), 3)


@pytest.mark.parametrize(
    ("transform", "probability"),
    [
        (intensity.random_noise, 0.1),
        (intensity.random_brightness, 0.15),
        (intensity.random_contrast, 0.15),
        (intensity.random_gamma, 0.3),
    ],
)
def test_transforms_happen_as_often_as_they_are_said_to(transform, probability):
    found = _many(lambda key, image: transform(key, image, Chance(probability, (0.7, 1.5))))
    assert_share((found != np.asarray(IMAGE)).any((1, 2, 3, 4)), probability)


def test_noise_is_the_same_in_all_channels_and_its_deviation_is_drawn():
    noise = _many(lambda key, image: intensity.random_noise(key, image, Chance(1.0, (0.0, 0.1)))) - np.asarray(IMAGE)
    np.testing.assert_allclose(noise[..., 0], noise[..., 1], atol=1e-6)
    # A standard normal value times an independent, even one of [0, .1] has the variance .01 / 3.
    assert abs(noise[..., 0].std() - 0.1 / np.sqrt(3)) < 2e-3


def test_factors_are_drawn_for_each_channel_half_of_them_below_1():
    found = _many(lambda key, image: intensity.random_brightness(key, image, Chance(1.0, (0.5, 1.25))))
    factors = (found / np.asarray(IMAGE))[:, 0, 0, 0]
    assert (factors[:, 0] != factors[:, 1]).all()
    assert factors.min() > 0.5 - 1e-5
    assert factors.max() < 1.25 + 1e-5
    assert_share(factors < 1, 0.5)
    # Even within the part below 1, although it is the wider.
    assert_share(factors[factors < 1] < 0.75, 0.5)
    assert_share(factors[factors > 1] < 1.125, 0.5)

"""Noise, brightness, contrast and gamma of images; masks are not concerned.

Source: batchgeneratorsv2 0.3.6, transforms/intensity, with the arguments of nnunetv2 2.8.1.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Key

from unet_jax.training.patch_augment.draws import factor, named, sometimes, uniform
from unet_jax.training.patch_augment.settings import Chance

# The smallest divisor of gamma.
EPSILON = 1e-7

Image = Float32[Array, "*patch c"]
Factors = Float32[Array, " c"]


def random_noise(key: Key[Array, ""], image: Image, chance: Chance) -> Image:
    """Adds Gaussian noise of a drawn standard deviation, the same to all channels."""

    def noisy(image: Image) -> Image:
        deviation = uniform(named(key, "deviation"), chance.range)
        return image + deviation * jax.random.normal(named(key, "noise"), (*image.shape[:-1], 1))

    return sometimes(key, chance.probability, noisy, image)


def random_brightness(key: Key[Array, ""], image: Image, chance: Chance) -> Image:
    """Multiplies each channel by a factor of its own."""
    factors = factor(named(key, "factors"), chance.range, image.shape[-1:])
    return sometimes(key, chance.probability, lambda image: image * factors, image)


def random_contrast(key: Key[Array, ""], image: Image, chance: Chance) -> Image:
    """Changes the contrast of each channel by a factor of its own."""
    factors = factor(named(key, "factors"), chance.range, image.shape[-1:])
    return sometimes(key, chance.probability, lambda image: contrast(image, factors), image)


def contrast(image: Image, factors: Factors) -> Image:
    """Multiplies each channel's distance from its mean, and cuts it off at its old least and greatest value."""
    spatial = tuple(range(image.ndim - 1))
    mean = image.mean(spatial)
    return jnp.clip((image - mean) * factors + mean, image.min(spatial), image.max(spatial))


def random_gamma(key: Key[Array, ""], image: Image, chance: Chance, *, inverted: bool = False) -> Image:
    """Raises each channel to a power of its own, as it is or negated."""
    sign = -1 if inverted else 1
    exponents = factor(named(key, "exponents"), chance.range, image.shape[-1:])
    return sometimes(key, chance.probability, lambda image: sign * gamma(sign * image, exponents), image)


def gamma(image: Image, exponents: Factors) -> Image:
    """Raises each channel to a power, scaled to [0, 1] by its range; its mean and deviation are kept."""
    spatial = tuple(range(image.ndim - 1))
    least = image.min(spatial)
    extent = image.max(spatial) - least
    powered = ((image - least) / jnp.maximum(extent, EPSILON)) ** exponents * extent + least
    ratio = image.std(spatial, ddof=1) / jnp.maximum(powered.std(spatial, ddof=1), EPSILON)
    return (powered - powered.mean(spatial)) * ratio + image.mean(spatial)

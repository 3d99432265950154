"""Gaussian blur, axis by axis.

Source: batchgeneratorsv2 0.3.6, transforms/noise/gaussian_blur.py, with the arguments of nnunetv2 2.8.1.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float32, Key

from unet_jax.training.patch_augment.draws import happens, named, sometimes, uniform
from unet_jax.training.patch_augment.settings import Chance


def random_blur(key: Key[Array, ""], image: Float32[Array, "*patch c"], chance: Chance) -> Float32[Array, "*patch c"]:
    """Blurs some of the channels, each by a drawn deviation an axis."""
    channels, axes = image.shape[-1], image.ndim - 1
    is_chosen = happens(named(key, "channels"), chance.each, (channels,))
    deviations = uniform(named(key, "deviations"), chance.range, (axes, channels))
    reach = _reach(chance.range[1])

    def blurred(image):
        kernels = jnp.where(is_chosen, gaussians(deviations, reach), gaussians(jnp.zeros_like(deviations), reach))
        return blur(image, kernels)

    return sometimes(key, chance.probability, blurred, image)


def _reach(deviation: float) -> int:
    """Voxels beside its middle that a kernel has: its length is the odd number nearest to 6 σ + ½."""
    return math.floor((6 * deviation + 0.5) / 2)


def gaussians(deviations: Float32[Array, "axes c"], reach: int) -> Float32[Array, "n axes c"]:
    """Kernels of one length, 2 `reach` + 1; those of smaller deviations end earlier, in zeros.

    Args:
        deviations: in voxels; 0 is the kernel that changes nothing.
        reach: voxels beside the middle, enough for the greatest deviation.
    """
    places = jnp.arange(-reach, reach + 1, dtype=jnp.float32)[:, None, None]
    ends = jnp.floor((6 * deviations + 0.5) / 2)
    density = jnp.exp(-0.5 * (places / jnp.maximum(deviations, 1e-6)) ** 2)
    kernels = jnp.where(jnp.abs(places) <= ends, density, 0.0)
    return kernels / kernels.sum(0)


def blur(image: Float32[Array, "*patch c"], kernels: Float32[Array, "n axes c"]) -> Float32[Array, "*patch c"]:
    """Convolves each channel with a kernel an axis, as shifted sums; beyond its edges the image is reflected."""
    reach = len(kernels) // 2
    for axis in range(image.ndim - 1):
        size = image.shape[axis]
        edges = [(reach, reach) if a == axis else (0, 0) for a in range(image.ndim)]
        padded = jnp.moveaxis(jnp.pad(image, edges, mode="reflect"), axis, 0)
        total = sum(padded[shift : shift + size] * kernel for shift, kernel in enumerate(kernels[:, axis]))
        image = jnp.moveaxis(total, 0, axis)
    return image

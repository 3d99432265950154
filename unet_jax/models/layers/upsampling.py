"""Doubling the size: a transposed convolution or interpolation, and the convolution that follows."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from unet_jax.models.fast import upsampled_conv
from unet_jax.models.fast.bias import Conv
from unet_jax.models.layers.convolutions import conv_transposed
from unet_jax.models.layers.options import LayerOptions, check_choice

UPS = ("bilinear", "nearest", "transposed")


class Upsample(nnx.Module):
    """Doubles every spatial axis.

    Attributes:
        how: one of `UPS`; "bilinear" is trilinear in 3-D.
        out_features: output channels. "transposed" gives the number it was made with; the others keep their input's.
    """

    def __init__(self, in_features: int, out_features: int, options: LayerOptions, *, how: str):
        check_choice("up", how, UPS)
        self.how = how
        self.out_features = out_features if how == "transposed" else in_features
        if how == "transposed":
            self.transposed = conv_transposed(in_features, out_features, options, stride=2)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial2 d"]:
        """Features of twice the size."""
        if self.how == "transposed":
            return self.transposed(x)
        upsample_axis = upsample_linear if self.how == "bilinear" else upsample_nearest
        for axis in range(1, x.ndim - 1):
            x = upsample_axis(x, axis)
        return x


def conv_joined(
    conv: Conv, upsample: Upsample, x: Float[Array, "b *spatial c"], skip: Float[Array, "b *spatial2 d"]
) -> Float[Array, "b *spatial3 e"]:
    """The convolution `conv` of the concatenation [upsample(x), skip] over channels.

    Where that is faster, channels are mixed before they are upsampled, with the same result to rounding.
    """
    if upsample.how == "bilinear" and upsampled_conv.pays(conv, x):
        return upsampled_conv.conv_joined(conv, x, skip)
    return conv(jnp.concatenate([upsample(x), skip], axis=-1))


def upsample_nearest(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Repeats every sample once along `axis`."""
    return jnp.repeat(x, 2, axis)


def upsample_linear(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Linear interpolation to twice the samples along `axis`; the first and the last sample stay in place.

    This is align_corners=True: output j lies at input coordinate j (n - 1) / (2 n - 1). So the even output
    2k = (1 - w) x[k] + w x[k-1] with w = k / (2n - 1), and the odd output 2k+1 mirrors it from the other end.
    Only shifts and products: a gather, and the scatter of its gradient, are many times slower on a CPU.
    """
    n = x.shape[axis]
    weight = (jnp.arange(n) / (2 * n - 1)).astype(x.dtype)
    weight = weight.reshape([n if i == axis else 1 for i in range(x.ndim)])
    part = functools.partial(jax.lax.slice_in_dim, x, axis=axis)
    before = jnp.concatenate([part(0, 1), part(0, n - 1)], axis)
    after = jnp.concatenate([part(1, n), part(n - 1, n)], axis)
    even = x + weight * (before - x)
    odd = x + jnp.flip(weight, axis) * (after - x)
    shape = (*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
    return jnp.stack([even, odd], axis + 1).reshape(shape)

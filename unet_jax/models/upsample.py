"""What doubles the size on the way up: a transposed convolution, or interpolation."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unet_jax.models.layers import check_choice, conv_transposed

UPS = ("bilinear", "nearest", "transposed")


class Upsample(nnx.Module):
    """Doubles every spatial axis. "transposed" changes the channels to `out_features`; the others keep them."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        how: str,
        rank: int,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
        init: str = "torch",
    ):
        check_choice("up", how, UPS)
        self.how = how
        self.out_features = out_features if how == "transposed" else in_features
        if how == "transposed":
            self.transposed = conv_transposed(
                in_features, out_features, stride=(2,) * rank, rngs=rngs, dtype=dtype, init=init
            )

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial2 d"]:
        """Features of twice the size."""
        if self.how == "transposed":
            return self.transposed(x)
        upsample_axis = upsample_linear if self.how == "bilinear" else upsample_nearest
        for axis in range(1, x.ndim - 1):
            x = upsample_axis(x, axis)
        return x


def upsample_nearest(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Every sample twice along `axis`."""
    return jnp.repeat(x, 2, axis)


def upsample_linear(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Linear interpolation to twice the samples along `axis`, first and last sample kept in place.

    This is align_corners=True: output j lies at input coordinate j (n - 1) / (2 n - 1). So the even output
    2k = (1 - w) x[k] + w x[k-1] with w = k / (2n - 1), and the odd output 2k+1 mirrors it from the other end.
    Shifts and products alone: a gather, and the scatter of its gradient, are many times slower on a CPU.
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

"""The layers every network here is built from: rank-generic (2-D and 3-D), channels last."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unet_jax.errors import InputError

NORMS = ("none", "batch", "instance", "group")
UPS = ("bilinear", "nearest", "transposed")


def torch_uniform(fan_in: int) -> nnx.Initializer:
    """PyTorch's default for convolutions: U(-1/√fan_in, 1/√fan_in), for kernel and bias alike.

    It is Kaiming's uniform rule with a = √5 (He et al. 2015, section 2.2).
    """
    bound = fan_in**-0.5

    def init(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, out_sharding=None) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def conv(
    in_features: int,
    out_features: int,
    *,
    kernel: int,
    rank: int,
    rngs: nnx.Rngs,
    dtype: DTypeLike,
    use_bias: bool = True,
) -> nnx.Conv:
    """A convolution of stride 1 that keeps the image's size, with PyTorch's default initialisation."""
    init = torch_uniform(in_features * kernel**rank)
    return nnx.Conv(
        in_features,
        out_features,
        kernel_size=(kernel,) * rank,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=init,
        bias_init=init,
        rngs=rngs,
    )


def conv_transposed(
    in_features: int, out_features: int, *, stride: tuple[int, ...], rngs: nnx.Rngs, dtype: DTypeLike
) -> nnx.ConvTranspose:
    """A transposed convolution whose kernel is its stride: each sample becomes a block of that size.

    PyTorch's default initialisation takes the kernel's second axis, the outputs, for the fan-in.
    """
    init = torch_uniform(out_features * math.prod(stride))
    return nnx.ConvTranspose(
        in_features,
        out_features,
        kernel_size=stride,
        strides=stride,
        dtype=dtype,
        kernel_init=init,
        bias_init=init,
        rngs=rngs,
    )


def normalisation(name: str, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike) -> nnx.Module | None:
    """The normalisation called `name` over `features` channels, with PyTorch's constants; None for "none".

    Group normalisation takes 32 groups, or as many as there are channels if that is fewer (Wu & He 2018).
    """
    match name:
        case "none":
            return None
        case "batch":
            return nnx.BatchNorm(features, momentum=0.9, epsilon=1e-5, dtype=dtype, rngs=rngs)
        case "instance":
            return nnx.InstanceNorm(features, epsilon=1e-5, dtype=dtype, rngs=rngs)
        case "group":
            groups = min(32, features)
            return nnx.GroupNorm(features, num_groups=groups, epsilon=1e-5, dtype=dtype, rngs=rngs)
    raise InputError(f"config.model.norm is {name!r}; it must be one of {', '.join(NORMS)}.")


class DoubleConv(nnx.Module):
    """Twice: 3×3 convolution, normalisation, ReLU. The convolutions have a bias where nothing normalises."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        norm: str,
        rank: int,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ):
        def conv3(features: int) -> nnx.Conv:
            return conv(
                features, out_features, kernel=3, rank=rank, rngs=rngs, dtype=dtype, use_bias=norm == "none"
            )

        self.conv1, self.conv2 = conv3(in_features), conv3(out_features)
        self.norm1 = normalisation(norm, out_features, rngs=rngs, dtype=dtype)
        self.norm2 = normalisation(norm, out_features, rngs=rngs, dtype=dtype)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial d"]:
        """Features of the same size, `out_features` of them, none negative."""
        for convolution, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = convolution(x)
            x = jax.nn.relu(x if norm is None else norm(x))
        return x


class Upsample(nnx.Module):
    """Doubles every spatial axis. "transposed" also changes the channels to `out_features`; the others keep them."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        how: str,
        rank: int,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ):
        if how not in UPS:
            raise InputError(f"config.model.up is {how!r}; it must be one of {', '.join(UPS)}.")
        self.how = how
        self.out_features = out_features if how == "transposed" else in_features
        if how == "transposed":
            self.transposed = conv_transposed(
                in_features, out_features, stride=(2,) * rank, rngs=rngs, dtype=dtype
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
    shape = x.shape[:axis] + (2 * n,) + x.shape[axis + 1 :]
    return jnp.stack([even, odd], axis + 1).reshape(shape)


def max_pool(x: Float[Array, "b *spatial c"]) -> Float[Array, "b *half c"]:
    """The largest of each 2×2 (or 2×2×2) block; every spatial axis must be even.

    A reshape and a maximum: the gradient of XLA's windowed reduction is slow on a CPU.
    """
    for axis in range(1, x.ndim - 1):
        shape = x.shape
        x = x.reshape(shape[:axis] + (shape[axis] // 2, 2) + shape[axis + 1 :]).max(axis + 1)
    return x

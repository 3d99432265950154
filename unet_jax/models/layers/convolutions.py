"""Convolutions and transposed convolutions, and how they are initialised."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array

from unet_jax.models.fast.bias import Conv, ConvTranspose
from unet_jax.models.fast.convolution import convolve
from unet_jax.models.layers.options import LayerOptions, check_choice, each_axis

PADDINGS = ("same", "valid")


def conv(
    in_features: int,
    out_features: int,
    options: LayerOptions,
    *,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: str = "same",
    use_bias: bool = True,
) -> Conv:
    """A convolution: [b, *spatial, in_features] → [b, *spatial2, out_features].

    Args:
        in_features: input channels.
        out_features: output channels.
        options: of the network.
        kernel: size of the kernel, one number or one an axis.
        stride: one number or one an axis.
        padding: "same" pads kernel // 2 zeros at every border, as is usual in PyTorch, which keeps the size at
            stride 1 if the kernel is odd; "valid" pads nothing.
        use_bias: whether to add a bias.

    Raises:
        InputError: there is no such padding.
    """
    check_choice("padding", padding, PADDINGS)
    kernel = each_axis(kernel, options.rank)
    fan_in = in_features * math.prod(kernel)
    return Conv(
        in_features,
        out_features,
        kernel_size=kernel,
        strides=each_axis(stride, options.rank),
        padding=[(n // 2, n // 2) for n in kernel] if padding == "same" else "VALID",
        use_bias=use_bias,
        dtype=options.dtype,
        conv_general_dilated=convolve,
        **_initializers(options.init, torch_fan=fan_in, he_fan=fan_in),
        rngs=options.rngs,
    )


def conv_transposed(
    in_features: int,
    out_features: int,
    options: LayerOptions,
    *,
    stride: int | Sequence[int],
    kernel: int | Sequence[int] | None = None,
) -> ConvTranspose:
    """A transposed convolution to `stride` times the size.

    PyTorch's default initialisation takes the kernel's second axis, the outputs, for the fan-in; He's N counts the
    values that an output comes from: in_features · kernel / stride.

    Args:
        in_features: input channels.
        out_features: output channels.
        options: of the network.
        stride: one number or one an axis.
        kernel: one number or one an axis; None is the stride, so that each sample becomes a block of its own.
    """
    strides = each_axis(stride, options.rank)
    size = strides if kernel is None else each_axis(kernel, options.rank)
    return ConvTranspose(
        in_features,
        out_features,
        kernel_size=size,
        strides=strides,
        dtype=options.dtype,
        **_initializers(
            options.init,
            torch_fan=out_features * math.prod(size),
            he_fan=in_features * math.prod(size) / math.prod(strides),
        ),
        rngs=options.rngs,
    )


def torch_uniform(fan_in: int) -> nnx.Initializer:
    """PyTorch's default for convolutions: U(-1/√fan_in, 1/√fan_in), for kernel and bias alike.

    It is Kaiming's uniform rule with a = √5 (He et al. 2015, section 2.2).
    """
    bound = fan_in**-0.5
    return _drawn_flat(functools.partial(jax.random.uniform, minval=-bound, maxval=bound))


def he_normal(fan: int | float) -> nnx.Initializer:
    """N(0, √(2 / fan)): keeps the variance from layer to layer under ReLU (He et al. 2015, section 2.2)."""
    return _drawn_flat(lambda key, shape, dtype: jax.random.normal(key, shape, dtype) * (2 / fan) ** 0.5)


def _initializers(name: str, *, torch_fan: int, he_fan: int | float) -> dict[str, nnx.Initializer]:
    if name == "torch":
        return {"kernel_init": torch_uniform(torch_fan), "bias_init": torch_uniform(torch_fan)}
    return {"kernel_init": he_normal(he_fan), "bias_init": nnx.initializers.zeros}


def _drawn_flat(draw: Callable[..., Array]) -> nnx.Initializer:
    # XLA takes 2 s to compile the draw of an array of four axes, and 0.2 s for the same values on one axis.
    def init(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, out_sharding=None) -> Array:
        return draw(key, (math.prod(shape),), dtype).reshape(shape)

    return init

"""The layers every network here is built from: rank-generic (2-D and 3-D), channels last."""

import functools
import math
from collections.abc import Callable, Collection, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unet_jax.errors import InputError
from unet_jax.models.fast.bias import Conv, ConvTranspose
from unet_jax.models.fast.convolution import convolve

NORMS = ("none", "batch", "instance", "group")
PADDINGS = ("same", "valid")
INITS = ("torch", "he")


@jax.custom_jvp
def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """max(x, 0), with the gradient 0 at 0.

    Its gradient is told from its output, which the next layer keeps anyway: the input, another array of that size,
    need not be kept, and a compiler can make the activation part of the convolution before it.
    """
    return jnp.maximum(x, 0)


# Not out > 0: XLA makes x > 0 of that, and has to keep x.
relu.defjvps(lambda tangent, out, x: jnp.where(out == 0, 0, tangent))

ACTIVATIONS = {
    "relu": relu,
    "leaky_relu": functools.partial(jax.nn.leaky_relu, negative_slope=0.01),
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
}


def activation_function(name: str) -> Callable[[Array], Array]:
    """The activation called `name`, one of `ACTIVATIONS`; "leaky_relu" has the slope 0.01."""
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def torch_uniform(fan_in: int) -> nnx.Initializer:
    """PyTorch's default for convolutions: U(-1/√fan_in, 1/√fan_in), for kernel and bias alike.

    It is Kaiming's uniform rule with a = √5 (He et al. 2015, section 2.2).
    """
    bound = fan_in**-0.5
    return _drawn_flat(functools.partial(jax.random.uniform, minval=-bound, maxval=bound))


def he_normal(fan: int) -> nnx.Initializer:
    """N(0, √(2 / fan)): keeps the variance from layer to layer under ReLU (He et al. 2015, section 2.2)."""
    return _drawn_flat(lambda key, shape, dtype: jax.random.normal(key, shape, dtype) * (2 / fan) ** 0.5)


def _drawn_flat(draw: Callable[..., Array]) -> nnx.Initializer:
    # XLA takes 2 s to compile the draw of an array of four axes, and 0.2 s for the same values on one axis.
    def init(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, out_sharding=None) -> Array:
        return draw(key, (math.prod(shape),), dtype).reshape(shape)

    return init


def conv(
    in_features: int,
    out_features: int,
    *,
    kernel: int | Sequence[int],
    rank: int,
    rngs: nnx.Rngs,
    dtype: DTypeLike,
    use_bias: bool = True,
    stride: int | Sequence[int] = 1,
    padding: str = "same",
    init: str = "torch",
) -> Conv:
    """A convolution.

    Args:
        in_features: channels that come in.
        out_features: channels that go out.
        kernel: samples a side, one number or one an axis.
        rank: the number of spatial axes.
        rngs: where the initial parameters come from.
        dtype: what it computes in.
        use_bias: whether it adds one.
        stride: one number or one an axis.
        padding: "same" pads kernel // 2 zeros at every border, as is usual in PyTorch, and so keeps the size at
            stride 1 where the kernel is odd; "valid" pads nothing.
        init: "torch", PyTorch's default; "he", N(0, √(2/N)) for N incoming samples, and biases of 0.
    """
    check_choice("padding", padding, PADDINGS)
    kernel = each_axis(kernel, rank)
    fan_in = in_features * math.prod(kernel)
    return Conv(
        in_features,
        out_features,
        kernel_size=kernel,
        strides=each_axis(stride, rank),
        padding=[(n // 2, n // 2) for n in kernel] if padding == "same" else "VALID",
        use_bias=use_bias,
        dtype=dtype,
        conv_general_dilated=convolve,
        **_initializers(init, torch_fan=fan_in, he_fan=fan_in),
        rngs=rngs,
    )


def conv_transposed(
    in_features: int,
    out_features: int,
    *,
    stride: Sequence[int],
    rngs: nnx.Rngs,
    dtype: DTypeLike,
    init: str = "torch",
) -> ConvTranspose:
    """A transposed convolution whose kernel is its stride: each sample becomes a block of that size.

    `init` is as for `conv`. PyTorch's default takes the kernel's second axis, the outputs, for the fan-in; He's N
    is `in_features`, since each output comes from a single sample.
    """
    return ConvTranspose(
        in_features,
        out_features,
        kernel_size=tuple(stride),
        strides=tuple(stride),
        dtype=dtype,
        **_initializers(init, torch_fan=out_features * math.prod(stride), he_fan=in_features),
        rngs=rngs,
    )


def _initializers(name: str, *, torch_fan: int, he_fan: int) -> dict[str, nnx.Initializer]:
    check_choice("init", name, INITS)
    if name == "torch":
        return {"kernel_init": torch_uniform(torch_fan), "bias_init": torch_uniform(torch_fan)}
    return {"kernel_init": he_normal(he_fan), "bias_init": nnx.initializers.zeros}


def normalisation(
    name: str,
    features: int,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike,
    scale_init: nnx.Initializer = nnx.initializers.ones,
) -> nnx.Module | None:
    """The normalisation called `name` over `features` channels, with PyTorch's constants; None for "none".

    Group normalisation takes 32 groups (Wu & He 2018), or as many as divide both that and the channels.
    """
    check_choice("norm", name, NORMS)
    common = {"epsilon": 1e-5, "scale_init": scale_init, "dtype": dtype, "rngs": rngs}
    match name:
        case "batch":
            return nnx.BatchNorm(features, momentum=0.9, **common)
        case "instance":
            return nnx.InstanceNorm(features, **common)
        case "group":
            return nnx.GroupNorm(features, num_groups=math.gcd(32, features), **common)
    return None


class DoubleConv(nnx.Module):
    """Twice: 3×3 convolution, normalisation, activation. Where nothing normalises, convolutions have a bias."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        norm: str,
        rank: int,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
        activation: str = "relu",
        padding: str = "same",
        init: str = "torch",
    ):
        conv3 = functools.partial(
            conv,
            kernel=3,
            rank=rank,
            rngs=rngs,
            dtype=dtype,
            use_bias=norm == "none",
            padding=padding,
            init=init,
        )
        self.activation = activation_function(activation)
        self.conv1, self.conv2 = conv3(in_features, out_features), conv3(out_features, out_features)
        self.norm1 = normalisation(norm, out_features, rngs=rngs, dtype=dtype)
        self.norm2 = normalisation(norm, out_features, rngs=rngs, dtype=dtype)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial2 d"]:
        """Features of the same size, or with padding "valid" of four samples less an axis."""
        return self.after_first(self.conv1(x))

    def after_first(self, x: Float[Array, "b *spatial d"]) -> Float[Array, "b *spatial2 d"]:
        """What follows the first convolution, of its output."""
        x = self.activation(x if self.norm1 is None else self.norm1(x))
        x = self.conv2(x)
        return self.activation(x if self.norm2 is None else self.norm2(x))


def max_pool(x: Float[Array, "b *spatial c"]) -> Float[Array, "b *half c"]:
    """The largest of each 2×2 (or 2×2×2) block, NaN before all; every spatial axis must be even.

    Comparisons of pairs: the gradient of XLA's windowed reduction is slow on a CPU, and that of `jnp.max` divides by
    the number of samples that equal the maximum: none, where the compiler rounds the two differently.
    """
    for axis in range(1, x.ndim - 1):
        first, second = (jax.lax.slice_in_dim(x, start, None, stride=2, axis=axis) for start in (0, 1))
        x = jnp.where((second > first) | jnp.isnan(second), second, first)
    return x


def average_pool(x: Float[Array, "b *spatial c"], block: Sequence[int]) -> Float[Array, "b *smaller c"]:
    """The mean of each block of `block` samples; every spatial axis must divide by the block's."""
    for axis, n in enumerate(block, start=1):
        if n > 1:
            shape = x.shape
            x = x.reshape(*shape[:axis], shape[axis] // n, n, *shape[axis + 1 :]).mean(axis + 1)
    return x


def crop(x: Float[Array, "b *spatial c"], size: Sequence[int]) -> Float[Array, "b *size c"]:
    """The middle `size` samples; what is uneven is cut off the far border."""
    for axis, n in enumerate(size, start=1):
        start = (x.shape[axis] - n) // 2
        x = jax.lax.slice_in_dim(x, start, start + n, axis=axis)
    return x


def each_axis(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """One number for each of `rank` axes."""
    return (value,) * rank if isinstance(value, int) else tuple(value)


def check_choice(key: str, value: str, choices: Collection[str]) -> None:
    """Raises InputError, naming config.model.<key>, unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(f"config.model.{key} is {value!r}; it must be one of {', '.join(choices)}.")

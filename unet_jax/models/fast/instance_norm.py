"""Instance normalisation and leaky ReLU as one, with a gradient of two passes over memory on a CPU.

Differentiated by JAX, the gradient's two sums over an instance take a pass each and keep arrays between them. Here both
are made in one pass over the input and the output's gradient, in blocks that stay in the cache, and a second pass over
the same two arrays writes the result; see docs/performance.md.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Float32

from unet_jax.models.fast.convolution import backend_for

# Values of one block: 256 KB in float32.
BLOCK = 2**16


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def leaky_relu(x: Float[Array, "..."], slope: float) -> Float[Array, "..."]:
    """x, times `slope` where it is below 0; the gradient is computed from the output, which the next layer keeps."""
    return jnp.where(x >= 0, x, slope * x)


@leaky_relu.defjvp
def _leaky_relu_jvp(slope: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    out = leaky_relu(*primals, slope)
    return out, jnp.where(out >= 0, tangents[0], slope * tangents[0])


class InstanceNorm(nnx.InstanceNorm):
    """`nnx.InstanceNorm` over the last axis, which can have a leaky ReLU in it; same parameters."""

    def __call__(self, x: Float[Array, "b *spatial c"], *, slope: float = 1.0) -> Float[Array, "b *spatial c"]:
        """The normalised features, times `slope` where they are below 0; with 1, they stay as they are."""
        if backend_for(x.shape) == "cpu":
            x, scale, bias = self.promote_dtype((x, self.scale[...], self.bias[...]), dtype=self.dtype)
            return normalise(self.epsilon, slope, x, scale, bias)
        y = super().__call__(x)
        return y if slope == 1 else leaky_relu(y, slope)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def normalise(
    epsilon: float, slope: float, x: Float[Array, "b *spatial c"], scale: Float[Array, " c"], bias: Float[Array, " c"]
) -> Float[Array, "b *spatial c"]:
    """Instance normalisation in float32, then leaky ReLU; the result has the type of `x`."""
    return _forward(epsilon, slope, x, scale, bias)[0]


def _forward(epsilon: float, slope: float, x: Array, scale: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    wide, axes = x.astype(jnp.float32), range(1, x.ndim - 1)
    mean = wide.mean(axes, keepdims=True)
    variance = jnp.maximum((wide * wide).mean(axes, keepdims=True) - mean * mean, 0)
    deviation = lax.rsqrt(variance + epsilon)
    y = (wide - mean) * (deviation * scale) + bias
    y = y if slope == 1 else jnp.where(y >= 0, y, slope * y)
    return y.astype(x.dtype), (x, scale, bias, mean, deviation)


def _backward(epsilon: float, slope: float, saved: tuple[Array, ...], gradient: Array) -> tuple[Array, Array, Array]:
    x, scale, bias, mean, deviation = saved

    def before_activation(x: Array, gradient: Array) -> tuple[Float32[Array, "..."], Float32[Array, "..."]]:
        """Normalised features, and the gradient of what `scale` and `bias` make of them."""
        normal = (x.astype(jnp.float32) - mean) * deviation
        gradient = gradient.astype(jnp.float32)
        if slope != 1:
            gradient = jnp.where(normal * scale + bias >= 0, gradient, slope * gradient)
        return normal, gradient

    axes = range(1, x.ndim - 1)
    rows = largest_divisor(x.shape[1], BLOCK // math.prod(x.shape[2:]))

    def add_block(sums: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], None]:
        normal, inner = before_activation(
            *(lax.dynamic_slice_in_dim(array, number * rows, rows, 1) for array in (x, gradient))
        )
        of_scale, of_bias = sums
        new = of_scale + (inner * normal).sum(axes, keepdims=True), of_bias + inner.sum(axes, keepdims=True)
        return new, None

    zeros = jnp.zeros_like(mean)
    (of_scale, of_bias), _ = lax.scan(add_block, (zeros, zeros), jnp.arange(x.shape[1] // rows))
    normal, inner = before_activation(x, gradient)
    count = math.prod(x.shape[1:-1])
    of_x = deviation * scale * (inner - of_bias / count - normal * (of_scale / count))
    every = range(x.ndim - 1)
    return of_x.astype(x.dtype), of_scale.sum(every).astype(scale.dtype), of_bias.sum(every).astype(bias.dtype)


normalise.defvjp(_forward, _backward)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` up to `limit`, at least 1."""
    return max(n for n in range(1, max(limit, 1) + 1) if number % n == 0)

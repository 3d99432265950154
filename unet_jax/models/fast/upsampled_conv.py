"""A 3×3 convolution of an image doubled by linear interpolation, with a quarter of the products.

Interpolation treats all channels alike, so it commutes with mixing them: with z[s, t] = x · kernel[s, t] at the low
resolution, conv(up(x)) is the sum of the nine up(z[s, t]), each shifted by its place in the kernel. That takes a
quarter of the products at the doubled size, plus sums over nine maps, which read and write memory. Nor is the
concatenation with the skip kept for the gradient. Both pay on CPU and GPU; see docs/performance.md.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from unet_jax.models.fast.bias import Conv, add_bias
from unet_jax.models.fast.convolution import backend_for, convolve

# Where it was measured to be faster; on a TPU it was not measured.
BACKENDS = ("cpu", "gpu")

NUMBERS = ("NHWC", "HWIO", "NHWC")


def pays(conv: Conv, x: Float[Array, "b *spatial c"]) -> bool:
    """Whether `conv_joined` can replace `conv` of [x doubled, skip], and is faster."""
    fits = conv.kernel_size == (3, 3) and conv.strides == (1, 1) and list(conv.padding) == [(1, 1), (1, 1)]
    return fits and backend_for(x.shape) in BACKENDS


def conv_joined(
    conv: Conv, x: Float[Array, "b h w c"], skip: Float[Array, "b 2*h 2*w d"]
) -> Float[Array, "b 2*h 2*w e"]:
    """`conv`, 3×3 and zero-padded to keep the size, of the concatenation [x doubled by `upsample_linear`, skip].

    It is the sum of the convolutions of both parts.
    """
    x, skip, kernel = conv.promote_dtype((x, skip, conv.kernel[...]), dtype=conv.dtype)
    of_x, of_skip = jnp.split(kernel, [x.shape[-1]], axis=2)
    joined = conv_upsampled(x, of_x) + convolve(skip, of_skip, (1, 1), "SAME", dimension_numbers=NUMBERS)
    return joined if conv.bias is None else add_bias(joined, conv.bias[...])


def conv_upsampled(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b 2*h 2*w d"]:
    """The zero-padded convolution of x, doubled along both axes by `upsample_linear`."""
    # All nine products as one matrix product.
    flat = kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)
    return _interpolate((x @ flat).reshape(*x.shape[:3], 3, 3, kernel.shape[3]))


@jax.custom_vjp
def _interpolate(maps: Float[Array, "b h w 3 3 d"]) -> Float[Array, "b 2*h 2*w d"]:
    """The sum of nine maps, one for each place in the kernel, each doubled in size and shifted by its place."""
    b, h, w, _, _, d = maps.shape
    rows = _combine(maps, 1).reshape(b, 2 * h, w, 3, d)
    return _combine(rows, 2).reshape(b, 2 * h, 2 * w, d)


def _forward(maps: Float[Array, "b h w 3 3 d"]) -> tuple[Array, None]:
    return _interpolate(maps), None


def _backward(_: None, gradient: Float[Array, "b h2 w2 d"]) -> tuple[Float[Array, "b h w 3 3 d"]]:
    b, h2, w2, d = gradient.shape
    rows = _distribute(gradient.reshape(b, h2, w2 // 2, 2, d), 2)
    return (_distribute(rows.reshape(b, h2 // 2, 2, w2 // 2, 3, d), 1),)


# Automatic differentiation would turn the slices into scatters, several times as slow.
_interpolate.defvjp(_forward, _backward)


def _combine(maps: Float[Array, "*lead"], axis: int) -> Float[Array, "*doubled"]:
    """Three maps (axis 3) of n samples along `axis` → their sum's samples 2k and 2k + 1, stacked on axis + 1."""
    n, weights = maps.shape[axis], _weights(maps.shape[axis])
    padded = _padded(maps, axis)

    def phase(number: int) -> Array:
        return sum(
            _along(weight, maps, axis) * jax.lax.slice_in_dim(padded[:, :, :, tap], 1 + k, 1 + k + n, axis=axis)
            for (its_phase, tap, k), weight in weights.items()
            if its_phase == number
        )

    return jnp.stack([phase(0), phase(1)], axis + 1)


def _distribute(phases: Float[Array, "*doubled"], axis: int) -> Float[Array, "*lead"]:
    """The transpose of `_combine`."""
    n, weights = phases.shape[axis], _weights(phases.shape[axis])
    padded = _padded(phases, axis)
    parts = [jax.lax.index_in_dim(padded, phase, axis + 1, keepdims=False) for phase in (0, 1)]

    def one_map(number: int) -> Array:
        return sum(
            _along(np.roll(weight, k), phases, axis) * jax.lax.slice_in_dim(parts[phase], 1 - k, 1 - k + n, axis=axis)
            for (phase, tap, k), weight in weights.items()
            if tap == number
        )

    return jnp.stack([one_map(0), one_map(1), one_map(2)], 3)


def _weights(n: int) -> dict[tuple[int, int, int], Float[np.ndarray, " n"]]:
    """Weights by (phase, tap, offset): sample 2k + phase adds this weight times sample k + offset of tap's map.

    Tap 0 is the place before the sample, tap 2 the one after it. A doubled map has, at 2k, `near` of its sample k - 1
    and the rest of its sample k; at 2k + 1, `far` of its sample k + 1 and the rest of its sample k. So the first and
    the last sample stay in place. Beyond them is zero.
    """
    k = np.arange(n)
    near, far = k / (2 * n - 1), (n - 1 - k) / (2 * n - 1)
    far_before, near_after = (n - k) / (2 * n - 1), (k + 1) / (2 * n - 1)
    first, last = k == 0, k == n - 1
    return {
        (0, 0, -1): np.where(first, 0, 1 - far_before),
        (0, 0, 0): np.where(first, 0, far_before),
        (0, 1, -1): near,
        (0, 1, 0): 1 - near,
        (0, 2, 0): 1 - far,
        (0, 2, 1): far,
        (1, 0, -1): near,
        (1, 0, 0): 1 - near,
        (1, 1, 0): 1 - far,
        (1, 1, 1): far,
        (1, 2, 0): np.where(last, 0, near_after),
        (1, 2, 1): np.where(last, 0, 1 - near_after),
    }


def _padded(x: Array, axis: int) -> Array:
    """A zero at both ends; on a CPU as an array of its own, so that shifted reads need no test for the border."""
    padded = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)])
    return jax.lax.optimization_barrier(padded) if jax.default_backend() == "cpu" else padded


def _along(weight: Float[np.ndarray, " n"], x: Array, axis: int) -> np.ndarray:
    """The weights in x's type, along `axis` of an array that has one axis less than x."""
    return weight.astype(x.dtype).reshape([-1 if i == axis else 1 for i in range(x.ndim - 1)])

"""Convolutions of volumes as sums of 2-D ones on a CPU, where XLA's in 3-D runs at a fifth of their rate.

A 3×3×3 convolution is the sum, over its three planes of taps, of 2-D convolutions with the depth folded into the batch.
The gradient of its input is such a sum again, and the kernel's comes in blocks of pixels; see docs/performance.md.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from unet_jax.models.fast.convolution import backend_for, explicit_padding, is_plain, kernel_gradient

# Of depth, rows and columns.
Strides = tuple[int, int, int]
Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def convolve_volume(
    x: Float[Array, "b *spatial c"], kernel: Float[Array, "*size part d"], strides: Any, padding: Any, **options: Any
) -> Float[Array, "b *spatial2 d"]:
    """`jax.lax.conv_general_dilated`, to be given to `nnx.Conv` of volumes: same arguments, same result."""
    suits = backend_for(x.shape) == "cpu" and x.ndim == 5 and math.prod(kernel.shape[:3]) > 1 and is_plain(options)
    if not suits:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    pads = explicit_padding(x.shape[1:4], kernel.shape[:3], strides, padding)
    # In float32, to which a CPU widens bfloat16 anyway, so that the sum is rounded once.
    return _convolve(tuple(strides), pads, x.astype(jnp.float32), kernel.astype(jnp.float32)).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve(
    strides: Strides, padding: Padding, x: Float[Array, "b z y x c"], kernel: Float[Array, "r s t c d"]
) -> Float[Array, "b z2 y2 x2 d"]:
    padded = jnp.pad(x, ((0, 0), padding[0], *[(0, 0)] * 3))
    depth = (padded.shape[1] - len(kernel)) // strides[0] + 1
    parts = [
        _plane_wise(strides, padding, _planes(padded, r, depth, strides[0]), plane) for r, plane in enumerate(kernel)
    ]
    return sum(parts[1:], parts[0])


def _forward(strides: Strides, padding: Padding, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(strides, padding, x, kernel), (x, kernel)


def _backward(strides: Strides, padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    planes = [_folded(_planes(padded, r, gradient.shape[1], strides[0])) for r in range(len(kernel))]
    of_kernel = [kernel_gradient(one, _folded(gradient), kernel.shape[1:3], strides[1:]) for one in planes]
    return _input_gradient(strides, padding, x, kernel, gradient), jnp.stack(of_kernel)


_convolve.defvjp(_forward, _backward)


def _input_gradient(strides: Strides, padding: Padding, x: Array, kernel: Array, gradient: Array) -> Array:
    """The gradient of the input: its planes s·j + r, for stride s, are reached by the taps r, r + s, … alone."""
    stride, depth = strides[0], x.shape[1] + sum(padding[0])
    length = -(-depth // stride)
    phases = []
    for first in range(stride):
        taps = kernel[first::stride]
        if not len(taps):
            phases.append(jnp.zeros((len(x), length, *x.shape[2:]), x.dtype))
            continue
        # Plane j gets, through tap i, the gradient at j - i; beyond the ends there is none.
        before, after = len(taps) - 1, max(length - gradient.shape[1], 0)
        padded = jnp.pad(gradient, ((0, 0), (before, after), *[(0, 0)] * 3))
        parts = [
            _plane_wise_transposed(strides, padding, x, _planes(padded, before - i, length), plane)
            for i, plane in enumerate(taps)
        ]
        phases.append(sum(parts[1:], parts[0]))
    joined = jnp.stack(phases, 2).reshape(len(x), length * stride, *x.shape[2:]) if stride > 1 else phases[0]
    return joined[:, padding[0][0] : padding[0][0] + x.shape[1]]


def _plane_wise(strides: Strides, padding: Padding, x: Array, kernel: Array) -> Array:
    """The 2-D convolution of every plane."""
    y = lax.conv_general_dilated(
        _folded(x), kernel, strides[1:], padding[1:], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _plane_wise_transposed(strides: Strides, padding: Padding, x: Array, gradient: Array, kernel: Array) -> Array:
    """The gradient of the input of `_plane_wise`, for planes of the size of x."""
    like = jax.ShapeDtypeStruct((*gradient.shape[:2], *x.shape[2:]), x.dtype)
    [of_x] = jax.linear_transpose(lambda planes: _plane_wise(strides, padding, planes, kernel), like)(gradient)
    return of_x


def _planes(x: Array, first: int, count: int, stride: int = 1) -> Array:
    return lax.slice_in_dim(x, first, first + (count - 1) * stride + 1, stride, axis=1)


def _folded(x: Float[Array, "b z y x c"]) -> Float[Array, "b*z y x c"]:
    return x.reshape(-1, *x.shape[2:])

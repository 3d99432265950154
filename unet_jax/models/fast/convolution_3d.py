"""Convolutions of volumes as sums of 2-D ones on a CPU, where XLA's in 3-D runs at a fifth of their rate.

A 3×3×3 convolution is the sum, over its three planes of taps, of 2-D convolutions with the depth folded into the batch.
The gradient of its input is such a sum again, and the kernel's comes in blocks of pixels; see docs/performance.md.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from unet_jax.models.fast.convolution import (
    NARROW,
    NUMBERS,
    backend_for,
    explicit_padding,
    is_plain,
    kernel_gradient,
)

# Of depth, rows and columns.
Strides = tuple[int, int, int]
Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

# Planes of so many pixels are summed one by one, while they are in the cache; smaller ones in one piece.
LARGE_PLANE = 512


def convolve_volume(
    x: Float[Array, "b *spatial c"], kernel: Float[Array, "*size part d"], strides: Any, padding: Any, **options: Any
) -> Float[Array, "b *spatial2 d"]:
    """`jax.lax.conv_general_dilated`, to be given to `nnx.Conv` of volumes: same arguments, same result."""
    suits = backend_for(x.shape) == "cpu" and x.ndim == 5 and math.prod(kernel.shape[:3]) > 1 and is_plain(options)
    if not suits:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    strides, pads = tuple(strides), explicit_padding(x.shape[1:4], kernel.shape[:3], strides, padding)
    # In float32, to which a CPU widens bfloat16 anyway, so that the sum is rounded once.
    wide, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    if len(kernel) > 1 and kernel.shape[3] < NARROW:
        wide, kernel = _depth_as_channels(wide, kernel, strides[0], pads[0])
        strides, pads = (1, *strides[1:]), ((0, 0), *pads[1:])
    return _convolve(strides, pads, wide, kernel).astype(x.dtype)


def _depth_as_channels(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> tuple[Array, Array]:
    """The same convolution by a kernel that is one plane deep: a pixel's channels are those of all its planes."""
    depth = (x.shape[1] + sum(padding) - len(kernel)) // stride + 1
    padded = _pad_depth(x, *padding)
    joined = jnp.concatenate([_planes(padded, r, depth, stride) for r in range(len(kernel))], -1)
    return joined, jnp.concatenate(list(kernel), axis=2)[None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve(
    strides: Strides, padding: Padding, x: Float[Array, "b z y x c"], kernel: Float[Array, "r s t c d"]
) -> Float[Array, "b z2 y2 x2 d"]:
    padded = _pad_depth(x, *padding[0])
    depth = (padded.shape[1] - len(kernel)) // strides[0] + 1

    def convolved(planes: Array, tap: Array) -> Array:
        return lax.conv_general_dilated(planes, tap, strides[1:], padding[1:], dimension_numbers=NUMBERS)

    return _sum_over_taps(convolved, padded, kernel, depth, strides[0])


def _forward(strides: Strides, padding: Padding, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(strides, padding, x, kernel), (x, kernel)


def _backward(strides: Strides, padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return (
        _input_gradient(strides, padding, x.shape, kernel, gradient),
        _kernel_gradient(strides, padding, x, kernel.shape, gradient),
    )


_convolve.defvjp(_forward, _backward)


def _input_gradient(
    strides: Strides, padding: Padding, shape: tuple[int, ...], kernel: Array, gradient: Array
) -> Array:
    """The gradient of the input: of its planes s·j + p, for stride s, only the taps p, p + s, … have a part."""
    stride, depth = strides[0], shape[1] + sum(padding[0])
    length = -(-depth // stride)
    pads = [
        (size - 1 - before, n + before - (m - 1) * step - 1)
        for n, m, size, step, (before, _) in zip(
            shape[2:4], gradient.shape[2:4], kernel.shape[1:3], strides[1:], padding[1:], strict=True
        )
    ]

    def transposed(planes: Array, tap: Array) -> Array:
        return lax.conv_general_dilated(planes, tap, (1, 1), pads, lhs_dilation=strides[1:], dimension_numbers=NUMBERS)

    phases = []
    for phase in range(stride):
        # The first tap reaches the furthest back.
        taps = jnp.flip(kernel[phase::stride], (0, 1, 2)).swapaxes(3, 4)
        padded = _pad_depth(gradient, max(len(taps) - 1, 0), length - gradient.shape[1])
        phases.append(_sum_over_taps(transposed, padded, taps, length, 1))
    joined = jnp.stack(phases, 2).reshape(len(gradient), length * stride, *shape[2:]) if stride > 1 else phases[0]
    return joined[:, padding[0][0] : padding[0][0] + shape[1]]


def _kernel_gradient(strides: Strides, padding: Padding, x: Array, shape: tuple[int, ...], gradient: Array) -> Array:
    """The gradient of the kernel, from each neighbourhood's product with the gradients of all planes that it is in."""
    stride, features = strides[0], shape[-1]
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    length = -(-padded.shape[1] // stride)
    of_taps: list[Array] = [None] * shape[0]
    for phase in range(min(stride, shape[0])):
        planes = _planes(padded, phase, -(-(padded.shape[1] - phase) // stride), stride)
        taps = range(phase, shape[0], stride)
        # Plane j meets, through the phase's tap i, the gradient at j - i; beyond the ends there is none.
        around = _pad_depth(gradient, len(taps) - 1, length)
        met = [_planes(around, len(taps) - 1 - i, planes.shape[1]) for i in range(len(taps))]
        found = kernel_gradient(_folded(planes), _folded(jnp.concatenate(met, -1)), shape[1:3], strides[1:])
        for i, tap in enumerate(taps):
            of_taps[tap] = found[..., i * features : (i + 1) * features]
    return jnp.stack(of_taps)


def _sum_over_taps(
    plane_wise: Callable[[Array, Array], Array],
    x: Float[Array, "b z y x c"],
    taps: Float[Array, "r s t c d"],
    depth: int,
    stride: int,
) -> Float[Array, "b z2 y2 x2 d"]:
    """Planes 0 to `depth` - 1: the sum over taps r of `plane_wise` of plane `stride` · j + r and that tap."""
    if not len(taps):
        shape = jax.eval_shape(plane_wise, _folded(x), jax.ShapeDtypeStruct(taps.shape[1:], taps.dtype)).shape
        return jnp.zeros((len(x), depth, *shape[1:]), x.dtype)
    if len(taps) == 1 or math.prod(x.shape[2:4]) < LARGE_PLANE:
        parts = [plane_wise(_folded(_planes(x, r, depth, stride)), tap) for r, tap in enumerate(taps)]
        return sum(parts[1:], parts[0]).reshape(len(x), depth, *parts[0].shape[1:])

    def plane(j: Array) -> Array:
        parts = [plane_wise(lax.dynamic_index_in_dim(x, j * stride + r, 1, False), tap) for r, tap in enumerate(taps)]
        return sum(parts[1:], parts[0])

    like = jax.eval_shape(plane, 0)
    empty = jnp.zeros((len(x), depth, *like.shape[1:]), like.dtype)
    return lax.fori_loop(0, depth, lambda j, made: lax.dynamic_update_index_in_dim(made, plane(j), j, 1), empty)


def _pad_depth(x: Array, before: int, after: int) -> Array:
    return jnp.pad(x, ((0, 0), (before, max(after, 0)), *[(0, 0)] * 3)) if before > 0 or after > 0 else x


def _planes(x: Array, first: int, count: int, stride: int = 1) -> Array:
    return lax.slice_in_dim(x, first, first + (count - 1) * stride + 1, stride, axis=1)


def _folded(x: Float[Array, "b z y x c"]) -> Float[Array, "b*z y x c"]:
    return x.reshape(-1, *x.shape[2:])

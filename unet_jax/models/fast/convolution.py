"""Convolutions that suit a CPU; all else is XLA's.

XLA computes the gradient of a kernel as one matrix product, as thin as the kernel and as long as all pixels together,
at a third of a CPU's rate. In blocks of pixels that stay in the cache it runs at nearly the full rate. And XLA leaves
convolutions of few channels to its slower kernels, which pairs of pixels avoid. See docs/performance.md.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from unet_jax.models.fast.partition import is_cut

# Zeros before and after, an axis: of rows and of columns.
Padding = tuple[tuple[int, int], ...]
NUMBERS = ("NHWC", "HWIO", "NHWC")

# Pixels of one matrix product: with 64 channels, their 3×3 neighbourhoods take 1 MB.
BLOCK = 512
# With fewer channels, copying the neighbourhoods costs more than it gains.
FEWEST_CHANNELS = 4
# XLA's fast kernels (YNNPACK) take a convolution with more channels than this, on one side at least.
NARROW = 16
# With so many or fewer, pairs of pixels have too few for them as well.
TOO_NARROW = 8


def backend_for(shape: Sequence[Any]) -> str | None:
    """The backend that will run what is traced for `shape`, by jax's name: "cpu", "gpu" or "tpu".

    None if a size is symbolic, which is an export that any device may run, or if images are cut into slabs: see
    `partition`.
    """
    return jax.default_backend() if all(isinstance(n, int) for n in shape) and not is_cut() else None


def convolve(
    x: Float[Array, "b *spatial c"], kernel: Float[Array, "*size part d"], strides: Any, padding: Any, **options: Any
) -> Float[Array, "b *spatial2 d"]:
    """`jax.lax.conv_general_dilated`, to be given to `nnx.Conv`: same arguments, same result, another gradient."""
    suits = (
        backend_for(x.shape) == "cpu"
        and x.ndim == 4
        and set(strides) == {1}
        and math.prod(kernel.shape[:2]) > 1
        and is_plain(options)
    )
    if suits:
        pads = explicit_padding(x.shape[1:3], kernel.shape[:2], strides, padding)
        if kernel.shape[2] >= FEWEST_CHANNELS or _pairs_suit(pads, x, kernel):
            return _convolve(pads, x, kernel)
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)


def is_plain(options: Mapping[str, Any]) -> bool:
    """Whether these options of `jax.lax.conv_general_dilated` ask for neither dilation nor groups."""
    dilated = any(set(options.get(name) or (1,)) - {1} for name in ("lhs_dilation", "rhs_dilation"))
    return not dilated and options.get("feature_group_count", 1) == 1


def explicit_padding(shape: Sequence[int], size: Sequence[int], strides: Sequence[int], padding: Any) -> Padding:
    """The zeros before and after each axis, of `padding` as flax and jax take it, "SAME" or "VALID" included."""
    pads = lax.padtype_to_pads(shape, size, strides, padding) if isinstance(padding, str) else padding
    return tuple(map(tuple, pads))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve(
    padding: Padding, x: Float[Array, "b h w c"], kernel: Float[Array, "s t c d"]
) -> Float[Array, "b h2 w2 d"]:
    if any(sum(padding, ())):
        return _of_stride_1(padding, x, kernel)
    # Without padding at all, XLA's fast kernels take up to ten times as long.
    return _of_stride_1(((1, 1), (0, 0)), x, kernel)[:, 1:-1]


def _of_stride_1(
    padding: Padding, x: Float[Array, "b h w c"], kernel: Float[Array, "s t c d"]
) -> Float[Array, "b h2 w2 d"]:
    if _pairs_suit(padding, x, kernel):
        return _in_pairs(padding, x, kernel)
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NUMBERS)


def _pairs_suit(padding: Padding, x: Array, kernel: Array) -> bool:
    """Whether a convolution is too narrow for XLA's fast kernels, and can be one of pairs of pixels."""
    width = x.shape[2] + sum(padding[1]) - kernel.shape[1] + 1
    is_narrow = TOO_NARROW < max(kernel.shape[2:]) <= NARROW and x.dtype == jnp.float32
    return is_narrow and kernel.shape[1] % 2 == 1 and width % 2 == 0


def _in_pairs(
    padding: Padding, x: Float[Array, "b h w c"], kernel: Float[Array, "s t c d"]
) -> Float[Array, "b h2 w2 d"]:
    """The same convolution of half as many columns, each of two pixels with the channels of both.

    A kernel of t columns, t odd, spans t + 1 for both pixels of a pair, one of them as zeros for either: with t = 3, a
    third more operations, at twice the rate and more.
    """
    b, _, _, channels = x.shape
    size, columns, _, features = kernel.shape
    rows, sides = padding
    padded = jnp.pad(x, ((0, 0), (0, 0), sides, (0, 0)))
    pairs = padded.reshape(b, padded.shape[1], -1, 2 * channels)
    # [s, t + 1, c, pixel, d]: the second pixel's kernel lies a column further.
    both = jnp.stack([jnp.pad(kernel, ((0, 0), (at, 1 - at), (0, 0), (0, 0))) for at in (0, 1)], 3)
    of_pairs = both.reshape(size, (columns + 1) // 2, 2 * channels, 2 * features)
    found = lax.conv_general_dilated(pairs, of_pairs, (1, 1), (rows, (0, 0)), dimension_numbers=NUMBERS)
    return found.reshape(b, found.shape[1], -1, features)


def _forward(padding: Padding, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(padding, x, kernel), (x, kernel)


def _backward(padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    [of_x] = jax.linear_transpose(lambda x: _of_stride_1(padding, x, kernel), x)(gradient)
    if x.shape[-1] < FEWEST_CHANNELS:
        as_xla = functools.partial(lax.conv_general_dilated, x, window_strides=(1, 1), padding=padding)
        [of_kernel] = jax.linear_transpose(lambda kernel: as_xla(kernel, dimension_numbers=NUMBERS), kernel)(gradient)
        return of_x, of_kernel
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    return of_x, kernel_gradient(padded, gradient, kernel.shape[:2]).astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)


def kernel_gradient(
    x: Float[Array, "b h w c"],
    gradient: Float[Array, "b h2 w2 d"],
    size: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
) -> Float[Array, "s t c d"]:
    """The gradient of the kernel of a convolution without padding, block by block, in float32.

    Args:
        x: the convolution's input.
        gradient: gradient of its output.
        size: rows and columns of the kernel.
        strides: of the convolution.
    """
    # Each device sums over its own images; with one sum for all, they would wait for each other at every block.
    devices = math.gcd(len(x), jax.device_count())
    x, gradient = (array.reshape(devices, -1, *array.shape[1:]) for array in (x, gradient))
    _, count, height, width, features = gradient.shape
    images, rows = _block(count, height, width)
    down, right = strides
    # What a block of so many rows and columns reads of the input.
    reach = ((rows - 1) * down + 1, (width - 1) * right + 1)

    def add_block(total: Array, number: Array) -> tuple[Array, None]:
        image, row = number // (height // rows) * images, number % (height // rows) * rows
        here = lax.dynamic_slice(gradient, (0, image, row, 0, 0), (devices, images, rows, width, features))
        around = lax.dynamic_slice(
            x,
            (0, image, row * down, 0, 0),
            (devices, images, reach[0] + size[0] - 1, reach[1] + size[1] - 1, x.shape[-1]),
        )
        moved = [
            around[:, :, s : s + reach[0] : down, t : t + reach[1] : right]
            for s in range(size[0])
            for t in range(size[1])
        ]
        neighbourhoods = jnp.concatenate(moved, -1).reshape(devices, images * rows * width, -1)
        product = jnp.einsum(
            "npd,npk->ndk", here.reshape(devices, -1, features), neighbourhoods, preferred_element_type=jnp.float32
        )
        return total + product, None

    zeros = jnp.zeros((devices, features, math.prod(size) * x.shape[-1]), jnp.float32)
    total, _ = lax.scan(add_block, zeros, jnp.arange(count // images * (height // rows)))
    return total.sum(0).reshape(features, *size, -1).transpose(1, 2, 3, 0)


def _block(count: int, height: int, width: int) -> tuple[int, int]:
    """Images and rows of a block of at most BLOCK pixels, or of one row; both divide what there is."""
    images = largest_divisor(count, BLOCK // (height * width))
    rows = height if height * width <= BLOCK else largest_divisor(height, BLOCK // width)
    return images, rows


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` up to `limit`, at least 1."""
    return max(n for n in range(1, max(limit, 1) + 1) if number % n == 0)

"""Pooling and cropping."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def max_pool(x: Float[Array, "b *spatial c"]) -> Float[Array, "b *half c"]:
    """The maximum of each 2×2 (or 2×2×2) block, NaN if the block has one; every spatial axis must be even.

    Pairs are compared: the gradient of XLA's windowed reduction is slow on a CPU, and that of `jnp.max` divides by the
    number of samples equal to the maximum, which is 0 where the compiler rounds the two differently. Of equal samples
    the first receives the gradient.
    """
    for axis in range(1, x.ndim - 1):
        first, second = (jax.lax.slice_in_dim(x, start, None, stride=2, axis=axis) for start in (0, 1))
        x = jnp.where((second > first) | jnp.isnan(second), second, first)
    return x


def average_pool(x: Float[Array, "b *spatial c"], block: Sequence[int]) -> Float[Array, "b *smaller c"]:
    """The mean of each block of `block` samples, one number an axis; every spatial axis must divide by its own."""
    for axis, n in enumerate(block, start=1):
        if n > 1:
            shape = x.shape
            x = x.reshape(*shape[:axis], shape[axis] // n, n, *shape[axis + 1 :]).mean(axis + 1)
    return x


def crop(x: Float[Array, "b *spatial c"], size: Sequence[int]) -> Float[Array, "b *size c"]:
    """The middle `size` samples of each spatial axis; an odd sample more is cut off the far border."""
    for axis, n in enumerate(size, start=1):
        start = (x.shape[axis] - n) // 2
        x = jax.lax.slice_in_dim(x, start, start + n, axis=axis)
    return x

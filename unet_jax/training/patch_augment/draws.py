"""What transforms draw: whether they happen, and how strongly."""

import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Key, PyTree


def named(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of one draw. A transform that is switched off does not change the draws of the others."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def happens(key: Key[Array, ""], probability: float, shape: tuple[int, ...] = ()) -> Bool[Array, "..."]:
    """True with this probability."""
    return jax.random.bernoulli(key, probability, shape)


def uniform(key: Key[Array, ""], limits: tuple[float, float], shape: tuple[int, ...] = ()) -> Float32[Array, "..."]:
    """Evenly from the range."""
    return jax.random.uniform(key, shape, jnp.float32, *limits)


def factor(key: Key[Array, ""], limits: tuple[float, float], shape: tuple[int, ...]) -> Float32[Array, "..."]:
    """Half of the time from the part of the range below 1, else from that above; nnU-Net's law for factors."""
    low, high = limits
    if low >= 1:
        return uniform(named(key, "value"), limits, shape)
    is_below = happens(named(key, "side"), 0.5, shape)
    share = uniform(named(key, "value"), (0.0, 1.0), shape)
    return jnp.where(is_below, low + share * (1 - low), 1 + share * (high - 1))


def sometimes(key: Key[Array, ""], probability: float, transform: Callable[[PyTree], PyTree], values: PyTree) -> PyTree:
    """Transforms with this probability. One of probability 0 is not compiled, and one that was not drawn costs nothing.

    Only over a batch that is mapped at once is it computed anyway.
    """
    if not probability:
        return values
    return jax.lax.cond(happens(named(key, "happens"), probability), transform, lambda values: values, values)

"""The mean of what networks of several folds answer, and of what each answers to mirrored images."""

import functools
import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

# [b, *window, c] → [b, *window] or [b, *window, k], with its parameters inside, compiled. More arguments may follow.
Network = Callable[..., jax.Array]


def averaged(networks: Sequence[Network], mirror_axes: Sequence[int] = ()) -> Network:
    """One network in place of several, each asked once for every set of mirrored axes.

    They are asked one after the other, so that each is one program, and the memory is that of one. Windows are put
    together by weighted sums, so this is the mean of what each would say of a whole case.

    Args:
        networks: of the same outputs.
        mirror_axes: of the window, from 0.
    """
    axes = [axis + 1 for axis in mirror_axes]
    flips = [several for count in range(len(axes) + 1) for several in itertools.combinations(axes, count)]
    count = len(flips) * len(networks)
    if count == 1:
        return networks[0]

    def mean(image: Array, *rest: Array) -> Array:
        total = None
        for several in flips:
            mirrored = _flip(image, several) if several else image
            for network in networks:
                found = network(mirrored, *rest)
                total = _flip(found, several) if total is None else _add_flipped(total, found, several)
        return total / count

    return mean


@functools.partial(jax.jit, static_argnums=1)
def _flip(image: Array, axes: tuple[int, ...]) -> Array:
    return jnp.flip(image, axes)


@functools.partial(jax.jit, static_argnums=2)
def _add_flipped(total: Array, found: Array, axes: tuple[int, ...]) -> Array:
    return total + jnp.flip(found, axes)

"""Features that are computed again for the gradient instead of being kept."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, PyTree

from unet_jax.errors import InputError


def recomputed(function: Callable[..., Array], wanted: bool) -> Callable[..., Array]:
    """`function`, of which only what it is given is kept for the gradient if that is `wanted`, and nothing within it.

    Gradient checkpointing (Chen et al. 2016): the function runs once more, backwards. `jax.checkpoint` divides the two
    runs by a barrier, which XLA's compiler for CPUs removes, to find that both compute the same and to keep the first
    one's features after all. Here the second run needs the gradient of the output, so that it can neither be merged
    with the first nor be run before it is its turn.

    Args:
        function: (*modules, *arrays) → array. Modules may be None; their running statistics are updated.
        wanted: whether to recompute; else the function itself.
    """
    if not wanted:
        return function

    def run(*given: Any) -> Array:
        arrays = tuple(each for each in given if isinstance(each, jax.Array))
        modules = given[: len(given) - len(arrays)]
        graphdef, state = nnx.split(modules)

        def call(state: PyTree, arrays: tuple[Array, ...]) -> tuple[Array, PyTree]:
            inside = nnx.merge(graphdef, state)
            return function(*inside, *arrays), nnx.as_pure(nnx.state(inside, nnx.BatchStat))

        found, statistics = _twice(call)(nnx.as_pure(state), arrays)
        nnx.update(modules, statistics)
        return found

    return run


def _twice(call: Callable) -> Callable:
    """(state, arrays) → (output, statistics), with a gradient that keeps neither output nor what is between."""

    def backward(given: tuple, gradient: tuple) -> tuple:
        state, arrays = given
        # 0, or NaN where the gradient is not finite, which the compiler does not know.
        nothing = 0 * gradient[0][(0,) * gradient[0].ndim]
        arrays = tuple(each + nothing.astype(each.dtype) for each in arrays)
        return jax.vjp(call, state, arrays)[1](gradient)

    twice = jax.custom_vjp(call)
    twice.defvjp(lambda *given: (call(*given), given), backward)
    return twice


def check_remat(levels: int) -> None:
    """Raises InputError, naming remat, unless it is a number of levels."""
    if levels < 0:
        raise InputError(f"remat is {levels}; it must be 0, or a number of levels from the first one on.")

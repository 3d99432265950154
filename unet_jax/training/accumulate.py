"""Loss and gradient of a batch of which the device holds the features of one part at a time.

A loss that is the mean over samples is the mean over parts, and so is its gradient. One that pools the samples, such as
Dice over the batch, needs all logits first, which are small beside the features: the parts pass through the network
once for these, the loss gives their gradient, and each part passes once more to bring its own back to the parameters
(Gao et al. 2021, section 3.2). Both are the whole batch's to rounding. Normalisation by the statistics of the batch
is not, and is refused: see `setup.check`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Key, PyTree, Shaped

Levels = tuple[Array, ...]


def loss_and_gradient(
    network: Callable[[dict, Array, Array], Levels],
    loss_of: Callable[..., Float32[Array, ""]],
    params: dict,
    image: Float[Array, "b *spatial c"],
    targets: tuple[Any, ...],
    key: Key[Array, ""],
    count: int,
    *,
    whole: bool,
) -> tuple[Float32[Array, ""], Float[Array, "b *spatial k"], dict]:
    """The loss of the batch, its logits at full resolution, and the gradient of the parameters.

    Args:
        network: (params, image, key of its dropout) → logits of each resolution, the highest first.
        loss_of: (logits of each resolution, *targets) → loss, of a whole batch or of a part of it.
        params: to differentiate by.
        image: of the batch.
        targets: arrays of the batch, or None.
        key: of dropout; each part has one of its own.
        count: of parts; divides the batch, on each device.
        whole: whether the loss pools the samples, so that its parts do not tell it.
    """
    parts = jax.tree.map(lambda x: _divide(x, count), (image, targets))
    keys = jax.random.split(key, count)
    one_by_one = _in_two_passes if whole else _in_one_pass
    loss, logits, gradient = one_by_one(network, loss_of, params, *parts, keys)
    return loss, _join(logits), gradient


def _in_one_pass(
    network: Callable, loss_of: Callable, params: dict, images: Array, targets: tuple, keys: Array
) -> tuple[Array, Array, dict]:
    def add_part(total: tuple, part: tuple) -> tuple[tuple, Array]:
        image, targets, key = part

        def loss_and_logits(params: dict) -> tuple[Array, Array]:
            levels = network(params, image, key)
            return loss_of(levels, *targets), levels[0]

        (loss, logits), gradient = jax.value_and_grad(loss_and_logits, has_aux=True)(params)
        return jax.tree.map(jnp.add, total, (loss, gradient)), logits

    zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    total, logits = jax.lax.scan(add_part, zeros, (images, targets, keys))
    loss, gradient = jax.tree.map(lambda x: x / len(images), total)
    return loss, logits, gradient


def _in_two_passes(
    network: Callable, loss_of: Callable, params: dict, images: Array, targets: tuple, keys: Array
) -> tuple[Array, Array, dict]:
    def look(_: None, part: tuple) -> tuple[None, Levels]:
        return None, network(params, *part)

    _, levels = jax.lax.scan(look, None, (images, keys))
    targets = jax.tree.map(_join, targets)
    loss, of_levels = jax.value_and_grad(lambda levels: loss_of(jax.tree.map(_join, levels), *targets))(levels)

    def add_part(total: dict, part: tuple) -> tuple[dict, None]:
        image, key, of_logits = part
        _, pull_back = jax.vjp(lambda params: network(params, image, key), params)
        [gradient] = pull_back(of_logits)
        return jax.tree.map(jnp.add, total, gradient), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    gradient, _ = jax.lax.scan(add_part, zeros, (images, keys, of_levels))
    return loss, levels[0], gradient


def _divide(x: Shaped[Array, "b ..."], count: int) -> Shaped[Array, "{count} part ..."]:
    """Sample i goes to part i modulo `count`, so that each device has its share of each part already."""
    return jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)


def _join(x: PyTree) -> Shaped[Array, "b ..."]:
    """What `_divide` divided."""
    return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])

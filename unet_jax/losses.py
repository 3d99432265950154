"""Losses, from logits and in float32, finite at logits of ±1e4."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Float32

from unet_jax.errors import InputError


def bce(logits: Float[Array, "b *spatial k"], mask: Float[Array, "b *spatial k"]) -> Float32[Array, ""]:
    """Binary cross-entropy, averaged over every pixel of the batch; `mask` in [0, 1]."""
    return optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), mask).mean()


def dice(
    logits: Float[Array, "b *spatial k"], mask: Float[Array, "b *spatial k"], smooth: float = 1.0
) -> Float32[Array, ""]:
    """1 - (2 Σ p m + smooth) / (Σ p + Σ m + smooth), summed over the whole batch at once.

    The soft Dice of Milletari et al. 2016 (section 3) without squares, as the tutorial has it.
    """
    probability = jax.nn.sigmoid(logits.astype(jnp.float32))
    overlap = jnp.sum(probability * mask)
    return 1 - (2 * overlap + smooth) / (jnp.sum(probability) + jnp.sum(mask) + smooth)


LOSSES = {"bce": bce, "dice": dice}


def check_weights(weights: Mapping[str, float]) -> None:
    """Raises InputError unless `weights` names losses of this file, at least one of them, with weights above 0."""
    if unknown := sorted(set(weights) - set(LOSSES)):
        raise InputError(f"config.loss has {', '.join(unknown)}; it may have {', '.join(LOSSES)}.")
    if not weights or any(weight <= 0 for weight in weights.values()):
        raise InputError(
            f"config.loss is {dict(weights)}; it needs at least one loss, and every weight above 0."
        )


def total_loss(
    logits: Float[Array, "b *spatial k"], mask: Float[Array, "b *spatial k"], weights: Mapping[str, float]
) -> Float32[Array, ""]:
    """The weighted sum of the losses that `weights` names, as in {"bce": 1.0, "dice": 1.0}."""
    return sum(weight * LOSSES[name](logits, mask) for name, weight in weights.items())

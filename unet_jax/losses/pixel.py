"""Losses that are a mean over pixels: cross-entropies, from logits and in float32.

All take logits and a mask of the same shape, the classes on the last axis. The mask lies in [0, 1]; with several
classes it is one-hot, background first. Pixel weights are 0 or more; only their ratios matter, and pixels of weight 0
do not count. The loss is 0 or more.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Float32

# The smallest divisor; its square is still a normal float32, so gradients stay finite.
EPSILON = 1e-7


def bce(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
) -> Float32[Array, ""]:
    """Binary cross-entropy, a sigmoid for each class, averaged over the pixels and classes of the batch."""
    losses = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), mask.astype(jnp.float32))
    return _mean(losses.mean(-1), pixel_weights)


def ce(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
) -> Float32[Array, ""]:
    """Cross-entropy -Σ m log p of a softmax, averaged over the pixels of the batch; `bce` where k = 1."""
    return _mean(_cross_entropy(logits, mask), pixel_weights)


def focal(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Float32[Array, ""]:
    """The focal loss -Σ α m (1 - p)^γ log p over the classes, averaged over the pixels of the batch.

    Lin et al. 2017, section 3 (which divides by the number of objects instead).

    Args:
        logits: with k = 1, a softmax over (background, class), the background's logit being 0.
        mask: as above.
        pixel_weights: as above.
        gamma: 0 or more: the larger, the less do pixels count that are nearly right; 0 is the (balanced)
            cross-entropy.
        alpha: from 0 to 1: weight of every class but the background, whose weight is 1 - alpha; None weights all by
            1. The paper's 0.25 favours the background.
    """
    logits, mask = logits.astype(jnp.float32), mask.astype(jnp.float32)
    if logits.shape[-1] == 1:
        logits = jnp.concatenate([jnp.zeros_like(logits), logits], -1)
        mask = jnp.concatenate([1 - mask, mask], -1)
    log_probability = jax.nn.log_softmax(logits)
    wrong = -jnp.expm1(log_probability)
    # At 0, a power below 1 has no finite gradient, but the loss has: its value and its slope are 0 there.
    modulator = jnp.where(wrong > 0, jnp.where(wrong > 0, wrong, 1) ** gamma, 0)
    losses = -mask * modulator * log_probability
    if alpha is not None:
        losses *= jnp.full(losses.shape[-1], alpha).at[0].set(1 - alpha)
    return _mean(losses.sum(-1), pixel_weights)


def topk(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    fraction: float = 0.1,
    per_sample: bool = False,
) -> Float32[Array, ""]:
    """The mean cross-entropy of the hardest pixels: those with the highest (weighted) cross-entropy.

    Wu et al. 2016 (bootstrapped cross-entropy). The default is nnU-Net's TopK10: 10 % of the batch's pixels.

    Args:
        logits: as in `ce`.
        mask: as in `ce`.
        pixel_weights: as above, except that `fraction` is taken of all pixels, including those of weight 0.
        fraction: share of the pixels, above 0 and at most 1; rounded down, but at least one pixel.
        per_sample: whether to take the hardest pixels of each sample, and not of the whole batch.
    """
    rows = logits.shape[0] if per_sample else 1
    losses = _cross_entropy(logits, mask).reshape(rows, -1)
    count = max(1, int(losses.shape[1] * fraction))
    if pixel_weights is None:
        return jax.lax.top_k(losses, count)[0].mean()
    weights = pixel_weights.astype(jnp.float32).reshape(rows, -1)
    hardest, index = jax.lax.top_k(weights * losses, count)
    weights = jnp.take_along_axis(weights, index, 1)
    return jnp.mean(hardest.sum(1) / jnp.maximum(weights.sum(1), EPSILON))


def _cross_entropy(
    logits: Float[Array, "b *spatial k"], mask: Float[Array, "b *spatial k"]
) -> Float32[Array, "b *spatial"]:
    logits, mask = logits.astype(jnp.float32), mask.astype(jnp.float32)
    if logits.shape[-1] == 1:
        return optax.sigmoid_binary_cross_entropy(logits, mask)[..., 0]
    return -jnp.sum(mask * jax.nn.log_softmax(logits), -1)


def _mean(
    losses: Float32[Array, "b *spatial"], pixel_weights: Float[Array, "b *spatial 1"] | None
) -> Float32[Array, ""]:
    """Σ w l / Σ w over the batch; 0 where all weights are 0."""
    if pixel_weights is None:
        return losses.mean()
    weights = pixel_weights.astype(jnp.float32)[..., 0]
    return jnp.sum(weights * losses) / jnp.maximum(jnp.sum(weights), EPSILON)

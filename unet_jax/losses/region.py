"""Losses that compare whole regions: Dice and its family, and Lovász, from logits and in float32.

All take logits and a mask of the same shape, the classes on the last axis: a sigmoid for one class, a softmax for
several. The mask lies in [0, 1]; with several classes it is one-hot, background first. A pixel of weight w counts as w
pixels, so one of weight 0 is ignored. A region is one class in the whole batch, and the loss is the mean over regions.
Options that the losses share:

    smooth       pixels added to numerator and denominator, as each formula shows; 0 or more. The larger, the less
                 do small regions count.
    per_sample   whether a region is one class in one sample.
    background   whether the first of several classes, the background, is a region too.
    sigmoid      whether several classes may overlap: each has a sigmoid of its own, and all are regions, as none is the
                 background.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

# The smallest divisor; its square is still a normal float32, so gradients stay finite.
EPSILON = 1e-7


def dice(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    smooth: float = 1.0,
    per_sample: bool = False,
    background: bool = False,
    sigmoid: bool = False,
) -> Float32[Array, ""]:
    """1 - (2 Σ p m + smooth) / (Σ p + Σ m + smooth).

    The soft Dice of Milletari et al. 2016 (section 3) without squares, as in the tutorial. From 0 to 1. With `smooth`
    1e-5 it is nnU-Net's plus 1.
    """
    return _tversky(logits, mask, pixel_weights, 0.5, 0.5, smooth / 2, per_sample, background, sigmoid).mean()


def jaccard(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    smooth: float = 1.0,
    per_sample: bool = False,
    background: bool = False,
    sigmoid: bool = False,
) -> Float32[Array, ""]:
    """1 - (Σ p m + smooth) / (Σ p + Σ m - Σ p m + smooth), the soft IoU (Rahman & Wang 2016). From 0 to 1."""
    return _tversky(logits, mask, pixel_weights, 1.0, 1.0, smooth, per_sample, background, sigmoid).mean()


def tversky(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    per_sample: bool = False,
    background: bool = False,
    sigmoid: bool = False,
) -> Float32[Array, ""]:
    """1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth), TP = Σ p m, FP = Σ p (1 - m), FN = Σ (1 - p) m.

    Salehi et al. 2017, with the α and β that they found best. From 0 to 1.
    """
    return _tversky(logits, mask, pixel_weights, alpha, beta, smooth, per_sample, background, sigmoid).mean()


def focal_tversky(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    smooth: float = 1.0,
    per_sample: bool = False,
    background: bool = False,
    sigmoid: bool = False,
) -> Float32[Array, ""]:
    """The `tversky` loss of each region to the power 1 / gamma.

    Abraham & Khan 2019, except that their α weights FN and that they sum over regions. Some libraries' gamma is the
    exponent itself, 0.75. From 0 to 1; `gamma` is above 0.
    """
    losses = _tversky(logits, mask, pixel_weights, alpha, beta, smooth, per_sample, background, sigmoid)
    # At 0, where nothing is left to learn, the root has no finite gradient.
    return jnp.where(losses > 0, jnp.where(losses > 0, losses, 1) ** (1 / gamma), 0).mean()


def log_cosh_dice(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    smooth: float = 1.0,
    per_sample: bool = False,
    background: bool = False,
    sigmoid: bool = False,
) -> Float32[Array, ""]:
    """The log cosh of the `dice` loss of each region (Jadon 2020)."""
    losses = _tversky(logits, mask, pixel_weights, 0.5, 0.5, smooth / 2, per_sample, background, sigmoid)
    # cosh x = 1 + 2 sinh² (x / 2) keeps the digits of a small x.
    return jnp.log1p(2 * jnp.sinh(losses / 2) ** 2).mean()


def _tversky(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None,
    alpha: float,
    beta: float,
    smooth: float,
    per_sample: bool,
    background: bool,
    sigmoid: bool,
) -> Float32[Array, " regions"]:
    """The Tversky loss of each region, as (α FP + β FN) / (TP + α FP + β FN + smooth), which cancels no digits.

    α = β = 1/2 is Dice with twice the `smooth`, α = β = 1 is Jaccard.
    """
    predicted, mask = probability(logits, sigmoid), mask.astype(jnp.float32)
    if logits.shape[-1] > 1 and not (background or sigmoid):
        predicted, mask = predicted[..., 1:], mask[..., 1:]
    weights = 1.0 if pixel_weights is None else pixel_weights.astype(jnp.float32)
    axes = tuple(range(1 if per_sample else 0, mask.ndim - 1))
    true_positive = jnp.sum(weights * predicted * mask, axes)
    false_positive = jnp.sum(weights * predicted * (1 - mask), axes)
    false_negative = jnp.sum(weights * (1 - predicted) * mask, axes)
    errors = alpha * false_positive + beta * false_negative
    return (errors / jnp.maximum(true_positive + errors + smooth, EPSILON)).reshape(-1)


def probability(logits: Float[Array, "b *spatial k"], sigmoid: bool = False) -> Float32[Array, "b *spatial k"]:
    """Of each class: a sigmoid for one, or for classes that overlap; else a softmax."""
    activation = jax.nn.sigmoid if sigmoid or logits.shape[-1] == 1 else jax.nn.softmax
    return activation(logits.astype(jnp.float32))


def lovasz(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    per_sample: bool = False,
) -> Float32[Array, ""]:
    """The Lovász extension of the Jaccard loss: of hinge errors for one class, of softmax errors for several.

    Berman et al. 2018. With several classes it is the mean over those in the mask, background included. The mask must
    contain only 0 and 1. The loss is 0 or more.
    """
    mask = mask.astype(jnp.float32)
    if logits.shape[-1] == 1:
        errors = jax.nn.relu(1 - logits.astype(jnp.float32) * (2 * mask - 1))
        present = jnp.ones_like(mask)
    else:
        errors = jnp.abs(mask - probability(logits))
        present = mask
    weights = jnp.ones_like(mask[..., :1]) if pixel_weights is None else pixel_weights.astype(jnp.float32)
    rows, classes = mask.shape[0] if per_sample else 1, mask.shape[-1]

    def regions(x: Array) -> Float32[Array, "rows classes pixels"]:
        return jnp.moveaxis(jnp.broadcast_to(x, mask.shape).reshape(rows, -1, classes), -1, 1)

    losses = jax.vmap(jax.vmap(_lovasz_extension))(regions(errors), regions(mask), regions(weights))
    counted = jnp.any(regions(present * weights) > 0, -1)
    return jnp.mean(jnp.sum(losses * counted, 1) / jnp.maximum(jnp.sum(counted, 1), 1))


def _lovasz_extension(
    errors: Float32[Array, " pixels"], mask: Float32[Array, " pixels"], weights: Float32[Array, " pixels"]
) -> Float32[Array, ""]:
    """Σ e_i (J_i - J_{i-1}) over the errors e in falling order (algorithm 1 of Berman et al. 2018).

    J_i is the Jaccard loss if the first i pixels were wrong and the others right.
    """
    falling, mask, weights = jax.lax.sort((-errors, mask, weights), num_keys=1)
    union = jnp.sum(weights * mask) + jnp.cumsum(weights * (1 - mask))
    jaccard = jnp.cumsum(weights) / jnp.maximum(union, EPSILON)
    return -jnp.sum(falling * jnp.diff(jaccard, prepend=0))

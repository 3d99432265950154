"""A loss that compares centre lines, for vessels, fibres and membranes: clDice (Shit et al. 2021), in float32."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from unet_jax.losses.region import EPSILON, probability


def cldice(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    iterations: int = 3,
    smooth: float = 1.0,
    per_sample: bool = False,
    background: bool = False,
    sigmoid: bool = False,
) -> Float32[Array, ""]:
    """1 - 2 P S / (P + S), P = (Σ s(p) m + smooth) / (Σ s(p) + smooth) and S = (Σ s(m) p + smooth) / (Σ s(m) + smooth).

    s is `soft_skeleton`: P is the share of the predicted centre line within the mask, S that of the mask's centre line
    within the prediction, so a thin vessel counts as much as a wide one (Shit et al. 2021, algorithms 1 and 2). From 0
    to 1. It does not say how wide a vessel is, and costs nothing where the prediction fills the image, which then has
    no centre line: so it is for a sum with `dice` or `bce`. Logits, mask and the options that are not `iterations` are
    those of `losses.region`; a pixel of weight 0 is background to both skeletons. `iterations` is the number of
    erosions: at least the radius, in pixels, of the widest vessel.
    """
    predicted, mask = probability(logits, sigmoid), mask.astype(jnp.float32)
    if logits.shape[-1] > 1 and not (background or sigmoid):
        predicted, mask = predicted[..., 1:], mask[..., 1:]
    weights = jnp.ones_like(mask[..., :1]) if pixel_weights is None else pixel_weights.astype(jnp.float32)
    predicted, mask = predicted * (weights > 0), mask * (weights > 0)
    axes = tuple(range(1 if per_sample else 0, mask.ndim - 1))

    def share_within(skeleton: Array, region: Array) -> Array:
        inside, whole = (jnp.sum(weights * x, axes) for x in (skeleton * region, skeleton))
        return (inside + smooth) / jnp.maximum(whole + smooth, EPSILON)

    precision = share_within(soft_skeleton(predicted, iterations), mask)
    sensitivity = share_within(soft_skeleton(mask, iterations), predicted)
    return jnp.mean(1 - 2 * precision * sensitivity / jnp.maximum(precision + sensitivity, EPSILON))


def soft_skeleton(x: Float32[Array, "b *spatial k"], iterations: int) -> Float32[Array, "b *spatial k"]:
    """What each of so many erosions, and none, leaves that an opening would remove: a centre line, from 0 to 1.

    Shit et al. 2021, algorithm 1, with the neighbourhoods of their code: erosion by a cross, dilation by a square.

    Args:
        x: from 0 to 1. What lies beyond the border is as the border, so what fills the whole image has no centre line.
        iterations: 0 or more.
    """
    skeleton = jnp.zeros_like(x)
    for _ in range(iterations + 1):
        eroded = _eroded(x)
        ridge = jax.nn.relu(x - _dilated(eroded))
        skeleton += (1 - skeleton) * ridge
        x = eroded
    return skeleton


def _eroded(x: Array) -> Array:
    return functools.reduce(jnp.minimum, (-_largest_of_three(-x, axis) for axis in range(1, x.ndim - 1)), x)


def _dilated(x: Array) -> Array:
    return functools.reduce(_largest_of_three, range(1, x.ndim - 1), x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _largest_of_three(x: Array, axis: int) -> Array:
    """The largest of each value and its two neighbours along an axis. Those that are equally large share the gradient.

    XLA's own gradient of a windowed reduction is slow on a CPU, and that of pairs that are compared is fused into loops
    that compute values again and again: 750 ms where this takes 40, for clDice of 512² pixels.
    """
    window = [3 if one == axis else 1 for one in range(x.ndim)]
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, [1] * x.ndim, "SAME")


def _largest_and_given(x: Array, axis: int) -> tuple[Array, tuple[Array, Array]]:
    largest = _largest_of_three(x, axis)
    return largest, (x, largest)


def _to_the_largest(axis: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    x, largest = saved
    # Each window's largest value: is it the one before the middle, in the middle, after it?
    won = {step: _moved(x, axis, step, -jnp.inf) == largest for step in (-1, 0, 1)}
    share = gradient / sum(one.astype(gradient.dtype) for one in won.values())
    return (sum(_moved(jnp.where(one, share, 0), axis, -step, 0.0) for step, one in won.items()),)


_largest_of_three.defvjp(_largest_and_given, _to_the_largest)


def _moved(x: Array, axis: int, step: int, beyond: float) -> Array:
    """What lies so many places further along an axis."""
    edges = [(-step, step, 0) if one == axis else (0, 0, 0) for one in range(x.ndim)]
    return jax.lax.pad(x, jnp.array(beyond, x.dtype), edges)

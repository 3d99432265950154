"""What `config.loss` names: the losses, their weighted sum, and that sum over several resolutions."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from unet_jax.errors import InputError
from unet_jax.losses.pixel import bce, ce, focal, topk
from unet_jax.losses.region import dice, focal_tversky, jaccard, log_cosh_dice, lovasz, tversky


def bce_dice(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    smooth: float = 1.0,
    per_sample: bool = False,
    background: bool = False,
) -> Float32[Array, ""]:
    """`bce` + `dice`, with the options of `dice`."""
    options = {"smooth": smooth, "per_sample": per_sample, "background": background}
    return bce(logits, mask, pixel_weights) + dice(logits, mask, pixel_weights, **options)


def ce_dice(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
    *,
    smooth: float = 1.0,
    per_sample: bool = False,
    background: bool = False,
) -> Float32[Array, ""]:
    """`ce` + `dice`, with the options of `dice`; nnU-Net's loss has smooth = 1e-5 (Isensee et al. 2021)."""
    options = {"smooth": smooth, "per_sample": per_sample, "background": background}
    return ce(logits, mask, pixel_weights) + dice(logits, mask, pixel_weights, **options)


_FUNCTIONS = (
    bce,
    ce,
    focal,
    topk,
    dice,
    jaccard,
    tversky,
    focal_tversky,
    log_cosh_dice,
    lovasz,
    bce_dice,
    ce_dice,
)
LOSSES = {function.__name__: function for function in _FUNCTIONS}

# Each class by its own sigmoid: no form for classes that exclude each other. Name → what takes its place.
ONE_CLASS = {"bce": "ce", "bce_dice": "ce_dice"}

# option → the values it may have, in words and as a test; None is allowed besides where it is the default
VALUES = {
    "weight": ("above 0", lambda value: 0 < value < math.inf),
    "alpha": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "beta": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "gamma": ("above 0", lambda value: 0 < value < math.inf),
    "smooth": ("0 or more", lambda value: 0 <= value < math.inf),
    "fraction": ("above 0 and at most 1", lambda value: 0 < value <= 1),
    "per_sample": ("True or False", lambda value: isinstance(value, bool)),
    "background": ("True or False", lambda value: isinstance(value, bool)),
}


def check_weights(weights: Mapping[str, Any], classes: int = 1) -> None:
    """Checks the losses that `total_loss` is to sum.

    Args:
        weights: name of a loss → its weight, or a mapping of its weight (1 by default) and its options, the
            keyword arguments of its function: {"bce": 1.0, "tversky": {"weight": 0.5, "alpha": 0.2}}.
        classes: that the masks tell from background.

    Raises:
        InputError: there is no loss, no loss or option of that name, a value is out of its range, or a loss is of one
            class and there are several.
    """
    if not weights:
        raise InputError('config.loss is empty; it needs a loss, as in {"bce": 1.0, "dice": 1.0}.')
    faults = []
    for name, entry in weights.items():
        if name not in LOSSES:
            faults.append(f"config.loss has {name}; it may have {', '.join(LOSSES)}.")
            continue
        options = _options(name)
        for option, value in (entry if isinstance(entry, Mapping) else {"weight": entry}).items():
            if option not in options:
                faults.append(f"config.loss.{name} has {option}; it may have {', '.join(options)}.")
            elif not _is_allowed(option, value, options[option]):
                faults.append(f"config.loss.{name}: {option} is {value!r}; it must be {VALUES[option][0]}.")
    if classes > 1:
        faults += [
            f"config.loss.{name} is a loss of one class, and the masks have {classes}, which exclude each other: use "
            f'{ONE_CLASS[name]}, as in --config.loss=\'{{"ce": 1.0, "dice": 1.0}}\'.'
            for name in weights.keys() & ONE_CLASS
        ]
    if faults:
        raise InputError("\n".join(faults))


def _options(name: str) -> dict[str, Any]:
    """The weight and the options of a loss, with their defaults."""
    parameters = inspect.signature(LOSSES[name]).parameters.values()
    return {"weight": 1.0} | {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _is_allowed(option: str, value: Any, default: Any) -> bool:
    if value is None:
        return default is None
    return isinstance(value, int | float) and VALUES[option][1](value)


def total_loss(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    weights: Mapping[str, Any],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
) -> Float32[Array, ""]:
    """The weighted sum of the losses that `weights` names, as `check_weights` describes it.

    A network that knows nothing, of two pixels of which one is tumour, has a cross-entropy of log 2 and half the Dice:

        >>> logits, mask = jnp.zeros((1, 1, 2, 1)), jnp.array([[[[1.0], [0.0]]]])
        >>> round(float(bce(logits, mask)), 3), round(float(dice(logits, mask, smooth=0.0)), 3)
        (0.693, 0.5)
        >>> round(float(total_loss(logits, mask, {"bce": 1.0, "dice": {"weight": 2.0, "smooth": 0.0}})), 3)
        1.693
    """
    total = jnp.zeros((), jnp.float32)
    for name, entry in weights.items():
        options = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
        weight = options.pop("weight", 1.0)
        total += weight * LOSSES[name](logits, mask, pixel_weights, **options)
    return total


def deep_supervision_loss(
    logits: Sequence[Float[Array, "b ... k"]],
    mask: Float[Array, "b *spatial k"],
    weights: Mapping[str, Any],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
) -> Float32[Array, ""]:
    """`total_loss` at each resolution that a network with deep supervision answers in, weighted and summed.

    The weights halve from one resolution to the next, the lowest has none, and they sum to 1 (nnU-Net,
    Isensee et al. 2021). Lower resolutions take mask and pixel weights from the nearest pixels.

    Args:
        logits: highest resolution, the mask's own, first; one alone has all the weight.
        mask: as the losses take it.
        weights: the losses, as `check_weights` describes them.
        pixel_weights: as the losses take them.

    Raises:
        ValueError: the highest resolution is not the mask's.
    """
    if logits[0].shape != mask.shape:
        raise ValueError(f"The network answers with {logits[0].shape} to a mask of {mask.shape}.")
    shares = [0.5**level for level in range(max(1, len(logits) - 1))]
    total = jnp.zeros((), jnp.float32)
    for share, level in zip(shares, logits, strict=False):
        pixels = None if pixel_weights is None else _nearest(pixel_weights, level)
        total += share / sum(shares) * total_loss(level, _nearest(mask, level), weights, pixels)
    return total


def _nearest(x: Float[Array, "b ... c"], like: Float[Array, "b *spatial k"]) -> Float[Array, "b *spatial c"]:
    return jax.image.resize(x, (*like.shape[:-1], x.shape[-1]), "nearest")

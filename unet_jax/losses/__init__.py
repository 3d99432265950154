"""Losses from logits, in float32: the functions by name, and the weighted sum that `config.loss` asks for.

Called by training; knows neither networks nor data.
"""

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from unet_jax.errors import InputError
from unet_jax.losses.pixel import bce, ce, focal, topk
from unet_jax.losses.region import dice, focal_tversky, jaccard, log_cosh_dice, lovasz, tversky
from unet_jax.losses.skeleton import cldice

_FUNCTIONS = (bce, ce, focal, topk, dice, jaccard, tversky, focal_tversky, log_cosh_dice, lovasz, cldice)
LOSSES: dict[str, Callable[..., Array]] = {function.__name__: function for function in _FUNCTIONS}
BUILT_IN = frozenset(LOSSES)

# Has a sigmoid for each class, so it cannot be used for classes that exclude each other → what to use then.
ONE_CLASS = {"bce": "ce"}
# Have a softmax of several classes, so they cannot be used for classes that overlap.
EXCLUSIVE = ("ce", "focal", "topk", "lovasz")
# Former names of sums of two losses, which configs of old runs may have.
SUMS = {"bce_dice": ("bce", "dice"), "ce_dice": ("ce", "dice")}

# Option → its range, in words and as a test; None is allowed too if it is the default.
VALUES = {
    "weight": ("above 0", lambda value: 0 < value < math.inf),
    "alpha": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "beta": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "gamma": ("above 0", lambda value: 0 < value < math.inf),
    "smooth": ("0 or more", lambda value: 0 <= value < math.inf),
    "fraction": ("above 0 and at most 1", lambda value: 0 < value <= 1),
    "iterations": ("a whole number, 0 or more", lambda value: type(value) is int and value >= 0),
    "per_sample": ("True or False", lambda value: isinstance(value, bool)),
    "background": ("True or False", lambda value: isinstance(value, bool)),
    "sigmoid": ("True or False", lambda value: isinstance(value, bool)),
}

# What an option must be that VALUES does not have.
NUMBER = ("a number",)


def register(name: str, loss: Callable[..., Array]) -> None:
    """Gives a loss of your own a name, for `total_loss` and config.loss: docs/own_parts.md.

    Args:
        name: not that of a loss of this package; one that was registered before is replaced.
        loss: of (logits, mask, pixel_weights, *, and its options, numbers with defaults), as those of this package are;
            it gives a number.

    Raises:
        InputError: the name is taken.
    """
    if name in BUILT_IN or name in SUMS:
        raise InputError(f"{name!r} is a loss of this package: register yours under another name.")
    LOSSES[name] = loss


def check_weights(weights: Mapping[str, Any], classes: int = 1, *, overlap: bool = False) -> None:
    """Checks the weights of the losses that `total_loss` sums.

    Args:
        weights: name of a loss → its weight, or a mapping of its weight (1 by default) and its options, the
            keyword arguments of its function: {"bce": 1.0, "tversky": {"weight": 0.5, "alpha": 0.2}}.
        classes: number of classes in the masks, the background not counted.
        overlap: whether several classes may cover the same pixel, as nnU-Net's regions do; else they exclude each
            other.

    Raises:
        InputError: no loss is given, there is no such loss or option, a value is out of its range, or a loss does not
            suit classes that exclude each other, or that overlap; every fault is listed.
    """
    if not weights:
        raise InputError('config.loss is empty; it needs a loss, as in {"bce": 1.0, "dice": 1.0}.')
    faults = []
    for name, entry in weights.items():
        if name not in LOSSES:
            faults.append(_unknown(name, entry))
            continue
        options = _options(name)
        for option, value in (entry if isinstance(entry, Mapping) else {"weight": entry}).items():
            if option not in options:
                faults.append(f"config.loss.{name} has {option}; it may have {', '.join(options)}.")
            elif not _is_allowed(option, value, options[option]):
                faults.append(f"config.loss.{name}: {option} is {value!r}; it must be {VALUES.get(option, NUMBER)[0]}.")
    if classes > 1:
        faults += _overlapping(weights, classes) if overlap else _exclusive(weights, classes)
    if faults:
        raise InputError("\n".join(faults))


def for_overlap(weights: Mapping[str, Any], classes: int, *, ignored: bool = False) -> dict[str, Any]:
    """The same losses for classes that overlap: a sigmoid for each of them instead of a softmax.

    Args:
        weights: of `check_weights`; `ce` becomes `bce`, and losses that compare regions get `sigmoid`.
        classes: how many overlap.
        ignored: whether masks may have pixels that nobody labelled: see `nnunet.loss_weights`.
    """
    found = {}
    for name, entry in weights.items():
        options = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
        if name == "ce" and "bce" not in weights:
            share = classes if ignored else 1
            found["bce"] = options | {"weight": options.get("weight", 1.0) * share}
        elif name in LOSSES and "sigmoid" in _options(name):
            found[name] = options | {"sigmoid": True}
        else:
            found[name] = entry
    return found


def _unknown(name: str, entry: Any) -> str:
    """The fault of a name that is not a loss; a former one is told by what to replace it."""
    if name not in SUMS:
        return f"config.loss has {name}; it may have {', '.join(LOSSES)}."
    pixel, region = SUMS[name]
    weight = entry.get("weight", 1.0) if isinstance(entry, Mapping) else entry
    sum_of_both = json.dumps({pixel: weight, region: dict(entry) if isinstance(entry, Mapping) else entry})
    return (
        f"config.loss has {name}, which no longer exists: give the sum, {sum_of_both}, which is the same number. To "
        "resume a run with it, write the sum into the run's config.json too."
    )


def _exclusive(weights: Mapping[str, Any], classes: int) -> list[str]:
    """The faults of losses that do not suit classes which exclude each other."""
    return [
        f"config.loss.{name} is a loss for one class, and the masks have {classes}, which exclude each other: use "
        f'{ONE_CLASS[name]}, as in --config.loss=\'{{"ce": 1.0, "dice": 1.0}}\'.'
        for name in weights.keys() & ONE_CLASS
    ] + [
        f"config.loss.{name} has sigmoid, and the masks have {classes} classes, which exclude each other: leave it out."
        for name, entry in weights.items()
        if isinstance(entry, Mapping) and entry.get("sigmoid")
    ]


def _overlapping(weights: Mapping[str, Any], classes: int) -> list[str]:
    """The faults of losses that do not suit classes which overlap."""
    example = '--config.loss=\'{"bce": 1.0, "dice": {"sigmoid": true}}\''
    faults = []
    for name, entry in weights.items():
        options = entry if isinstance(entry, Mapping) else {}
        if name in EXCLUSIVE:
            faults.append(
                f"config.loss.{name} is a loss for classes that exclude each other, and the masks have {classes} that "
                f"may overlap: use bce, as in {example}."
            )
        # bce has no such option, and a registered loss that has none takes the logits as it likes.
        elif name in LOSSES and "sigmoid" in _options(name) and not options.get("sigmoid"):
            faults.append(
                f"config.loss.{name} needs sigmoid, as the masks have {classes} classes that may overlap: {example}."
            )
    return faults


def _options(name: str) -> dict[str, Any]:
    """The weight and the options of a loss, with their defaults."""
    parameters = inspect.signature(LOSSES[name]).parameters.values()
    return {"weight": 1.0} | {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _is_allowed(option: str, value: Any, default: Any) -> bool:
    if value is None:
        return default is None
    # The ranges of a registered loss's own options are its own affair.
    return isinstance(value, int | float) and (option not in VALUES or VALUES[option][1](value))


def total_loss(
    logits: Float[Array, "b *spatial k"],
    mask: Float[Array, "b *spatial k"],
    weights: Mapping[str, Any],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
) -> Float32[Array, ""]:
    """The weighted sum of the losses in `weights`.

    At logits of 0, for two pixels of which one is foreground, the cross-entropy is log 2 and the Dice loss a half:

        >>> logits, mask = jnp.zeros((1, 1, 2, 1)), jnp.array([[[[1.0], [0.0]]]])
        >>> round(float(bce(logits, mask)), 3), round(float(dice(logits, mask, smooth=0.0)), 3)
        (0.693, 0.5)
        >>> round(float(total_loss(logits, mask, {"bce": 1.0, "dice": {"weight": 2.0, "smooth": 0.0}})), 3)
        1.693

    Args:
        logits: any real numbers, the classes on the last axis.
        mask: from 0 to 1; with several classes one-hot, the background first. Classes that overlap have no background.
        weights: as `check_weights` describes them, and checked by it.
        pixel_weights: 0 or more; None weights all pixels by 1. Pixels that nobody labelled are ignored with a weight of
            0, whatever the mask holds there.
    """
    total = jnp.zeros((), jnp.float32)
    for name, entry in weights.items():
        options = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
        weight = options.pop("weight", 1.0)
        total += weight * LOSSES[name](logits, mask, pixel_weights, **options)
    return total


def pools_samples(weights: Mapping[str, Any], *, weighted: bool) -> bool:
    """Whether `total_loss` of a batch is another number than the mean of its samples' own.

    Args:
        weights: as in `total_loss`.
        weighted: whether there are pixel weights; means over pixels then divide by those of the whole batch.
    """

    def pools(name: str, entry: Any) -> bool:
        options = _options(name) | (dict(entry) if isinstance(entry, Mapping) else {})
        return not options["per_sample"] if "per_sample" in options else weighted

    return any(pools(name, entry) for name, entry in weights.items())


def deep_supervision_loss(
    logits: Sequence[Float[Array, "b ... k"]],
    mask: Float[Array, "b *spatial k"],
    weights: Mapping[str, Any],
    pixel_weights: Float[Array, "b *spatial 1"] | None = None,
) -> Float32[Array, ""]:
    """The weighted sum of `total_loss` over the resolutions of a network with deep supervision.

    The weights halve from one resolution to the next, the lowest has weight 0, and they sum to 1 (nnU-Net, Isensee et
    al. 2021); see `level_weights`. For lower resolutions, mask and pixel weights are resized by their nearest pixels.

    Args:
        logits: the highest resolution, that of the mask, first; a single one has weight 1.
        mask: as in `total_loss`.
        weights: as in `total_loss`.
        pixel_weights: as in `total_loss`.

    Raises:
        ValueError: the first logits do not have the shape of the mask.
    """
    if logits[0].shape != mask.shape:
        raise ValueError(f"The logits have the shape {logits[0].shape} and the mask {mask.shape}; they must be equal.")
    total = jnp.zeros((), jnp.float32)
    for share, level in zip(level_weights(len(logits)), logits, strict=True):
        if share:
            pixels = None if pixel_weights is None else _nearest(pixel_weights, level)
            total += share * total_loss(level, _nearest(mask, level), weights, pixels)
    return total


def level_weights(levels: int) -> list[float]:
    """The weight of each resolution in `deep_supervision_loss`, the highest first; a single one has weight 1."""
    shares = [0.5**level for level in range(max(1, levels - 1))]
    return [share / sum(shares) for share in shares] + [0.0] * (levels - len(shares))


def _nearest(x: Float[Array, "b ... c"], like: Float[Array, "b *spatial k"]) -> Float[Array, "b *spatial c"]:
    """The pixels of `x` that are nearest to the centres of those of `like`, as PyTorch's nearest-exact.

    Of two that are as near it is the later. In whole numbers, as `jax.image.resize` takes the earlier for some sizes,
    such as 82 to 41.
    """
    for axis, (old, new) in enumerate(zip(x.shape[1:-1], like.shape[1:-1], strict=True), start=1):
        if old != new:
            x = jnp.take(x, (2 * np.arange(new) + 1) * old // (2 * new), axis=axis)
    return x

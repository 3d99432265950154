"""Networks: image → logits, channels last. `build` makes one by name.

A network is one file, written with the `layers`; it knows neither losses nor data.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from unet_jax.errors import InputError
from unet_jax.models.fpn import FPN
from unet_jax.models.nnunet import NNUNet
from unet_jax.models.resnext import ResNeXtUNet
from unet_jax.models.sizes import check_size, input_size_for
from unet_jax.models.unet import UNet

__all__ = ["build", "check_size", "input_size_for", "of_config", "register"]

# name → the module, and the arguments in which the network's source differs from the module's defaults
PRESETS: dict[str, tuple[Callable[..., nnx.Module], dict]] = {
    "tutorial": (UNet, {}),
    "unet2015": (UNet, {"depth": 5, "up": "transposed", "padding": "valid", "init": "he", "dropout": 0.5}),
    "buda2019": (UNet, {"width": 32, "depth": 5, "norm": "batch", "up": "transposed"}),
    "fpn": (FPN, {}),
    "resnext50_unet": (ResNeXtUNet, {}),
    "nnunet": (NNUNet, {}),
    "resenc": (NNUNet, {"residual": True, "blocks": (1, 3, 4, 6, 6, 6, 6), "decoder_blocks": 1}),
}

BUILT_IN = frozenset(PRESETS)

COMPUTE_TYPES = tuple(jnp.dtype(name) for name in ("float32", "bfloat16"))


def register(name: str, network: Callable[..., nnx.Module], **preset: Any) -> None:
    """Gives a network of your own a name, for `build` and config.model.name: docs/own_parts.md.

    Whatever builds it must be run by every program that uses it: names in a run's folder import nothing.

    Args:
        name: not that of a network of this package; one that was registered before is replaced.
        network: a class or function of (in_channels, num_classes, *, rngs, and the options of config.model). What it
            makes has the attributes `divisor` and `margin`: see `sizes`.
        **preset: options in place of its defaults.

    Raises:
        InputError: the name is taken.
    """
    if name in BUILT_IN:
        raise InputError(f"{name!r} is a network of this package: register yours under another name.")
    PRESETS[name] = (network, preset)


def build(name: str, in_channels: int, num_classes: int, rngs: nnx.Rngs, **options: Any) -> nnx.Module:
    """The network called `name`, in training mode.

    Args:
        name: one of `PRESETS`.
        in_channels: channels of the image.
        num_classes: channels of the logits; 1 is foreground against background.
        rngs: source of the initial parameters.
        **options: keyword arguments of the network's class, in place of the values of its source.

    Returns:
        A module from an image [b, *spatial, in_channels] to logits [b, *spatial, num_classes].

    Raises:
        InputError: there is no such network or option, or an option is out of its range.
    """
    if name not in PRESETS:
        raise InputError(
            f"name is {name!r}; it must be one of {', '.join(PRESETS)}. A network that its config file "
            "registers is known where that file is run: add --config=FILE."
        )
    module, preset = PRESETS[name]
    accepted = [
        key
        for key, parameter in inspect.signature(
            module.__init__ if isinstance(module, type) else module
        ).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and key != "rngs"
    ]
    if unknown := sorted(set(options) - set(accepted)):
        raise InputError(f"{unknown[0]} is not an option of {name!r}, which takes {', '.join(accepted)}.")
    arguments = preset | options
    if "dtype" in arguments:
        arguments["dtype"] = _compute_type(arguments["dtype"])
    return module(in_channels, num_classes, rngs=rngs, **arguments)


def of_config(model: ConfigDict, in_channels: int, num_classes: int, rngs: nnx.Rngs) -> nnx.Module:
    """`build` of what config.model names; its errors name the keys of the config."""
    try:
        return build(in_channels=in_channels, num_classes=num_classes, rngs=rngs, **model)
    except InputError as error:
        raise InputError(f"config.model.{error}") from error


def _compute_type(name: DTypeLike) -> jnp.dtype:
    try:
        dtype = jnp.dtype(name)
    except TypeError:
        dtype = None
    if dtype not in COMPUTE_TYPES:
        raise InputError(f"dtype is {name!r}; it must be one of {', '.join(map(str, COMPUTE_TYPES))}.")
    return dtype

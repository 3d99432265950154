"""Networks: image in, logits out, channels last. `build` makes one by name."""

import inspect

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from unet_jax.errors import InputError
from unet_jax.models.unet import UNet, check_size

__all__ = ["build", "check_size"]

# name → the module, and the arguments in which its source differs from the module's own defaults
PRESETS: dict[str, tuple[type[nnx.Module], dict]] = {
    "tutorial": (UNet, {}),
}


COMPUTE_TYPES = tuple(jnp.dtype(name) for name in ("float32", "bfloat16"))


def build(name: str, in_channels: int, num_classes: int, rngs: nnx.Rngs, **options) -> nnx.Module:
    """The network called `name`; `options` replace the values of its source.

    Raises:
        InputError: no network has that name, it has no such option, or an option is out of its range.
    """
    if name not in PRESETS:
        raise InputError(f"config.model.name is {name!r}; it must be one of {', '.join(PRESETS)}.")
    module, preset = PRESETS[name]
    accepted = [
        key
        for key, parameter in inspect.signature(module.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and key != "rngs"
    ]
    if unknown := sorted(set(options) - set(accepted)):
        raise InputError(
            f"config.model has {', '.join(unknown)}, but {name!r} takes {', '.join(accepted)} alone."
        )
    arguments = preset | options
    if "dtype" in arguments:
        arguments["dtype"] = _compute_type(arguments["dtype"])
    return module(in_channels, num_classes, rngs=rngs, **arguments)


def _compute_type(name: DTypeLike) -> jnp.dtype:
    try:
        dtype = jnp.dtype(name)
    except TypeError:
        dtype = None
    if dtype not in COMPUTE_TYPES:
        raise InputError(
            f"config.model.dtype is {name!r}; it must be one of {', '.join(map(str, COMPUTE_TYPES))}."
        )
    return dtype

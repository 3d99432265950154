"""Normalisations by name."""

import math

from flax import nnx

from unet_jax.models.fast.instance_norm import InstanceNorm
from unet_jax.models.layers.options import LayerOptions, check_choice

NORMS = ("none", "batch", "instance", "group")


def normalisation(
    name: str, features: int, options: LayerOptions, *, scale_init: nnx.Initializer = nnx.initializers.ones
) -> nnx.Module | None:
    """The normalisation called `name` over `features` channels; None for "none".

    Epsilon is 1e-5 and a batch counts 0.1 in the running statistics, as in PyTorch. Group normalisation has 32 groups
    (Wu & He 2018), or the largest number that divides both 32 and the channels.

    Args:
        name: one of `NORMS`.
        features: number of channels.
        options: of the network.
        scale_init: initial value of the scale.

    Raises:
        InputError: `name` is not one of `NORMS`.
    """
    check_choice("norm", name, NORMS)
    common = {"epsilon": 1e-5, "scale_init": scale_init, "dtype": options.dtype, "rngs": options.rngs}
    match name:
        case "batch":
            return nnx.BatchNorm(features, momentum=0.9, **common)
        case "instance":
            return InstanceNorm(features, **common)
        case "group":
            return nnx.GroupNorm(features, num_groups=math.gcd(32, features), **common)
    return None

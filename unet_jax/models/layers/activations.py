"""Activation functions by name."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unet_jax.models.fast.instance_norm import leaky_relu
from unet_jax.models.layers.options import check_choice


@jax.custom_jvp
def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """max(x, 0), with gradient 0 at 0.

    The gradient is computed from the output, which the next layer keeps anyway. The input, another array of that
    size, need not be kept, and a compiler can fuse the activation into the convolution before it.
    """
    return jnp.maximum(x, 0)


# Not out > 0: XLA rewrites that as x > 0, and then has to keep x.
relu.defjvps(lambda tangent, out, x: jnp.where(out == 0, 0, tangent))

LEAKY_SLOPE = 0.01

ACTIVATIONS = {
    "relu": relu,
    "leaky_relu": functools.partial(leaky_relu, slope=LEAKY_SLOPE),
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
}


def activation_function(name: str) -> Callable[[Array], Array]:
    """The activation called `name`: "leaky_relu" has slope 0.01, "gelu" is the tanh approximation.

    Raises:
        InputError: `name` is not one of `ACTIVATIONS`.
    """
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]

"""Convolutions with a bias whose gradient is summed in float32, even if the layer computes in bfloat16.

That gradient is a sum over all pixels of a batch. flax sums it in the layer's type, and in bfloat16, with 8 significant
bits, a sum stops growing once it is 256 times as large as what is added.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from unet_jax.models.fast.transposed_conv import BlockConvTranspose


@jax.custom_jvp
def add_bias(y: Float[Array, "b *spatial c"], bias: Float[Array, " c"]) -> Float[Array, "b *spatial c"]:
    """Adds `bias` to every pixel of `y`, in the type of `y`; the gradient of the bias has the type of the bias."""
    return y + bias.astype(y.dtype)


# Broadcast, then round: transposed, that is widen, then sum.
add_bias.defjvps(
    lambda tangent, out, y, bias: tangent,
    lambda tangent, out, y, bias: jnp.broadcast_to(tangent, y.shape).astype(y.dtype),
)


class _AddsBias:
    """What the layers below change in flax's."""

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        self.use_bias = False  # so that flax does not add it

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial2 d"]:
        """The output of flax's layer, plus the bias if there is one."""
        y = super().__call__(x)
        return y if self.bias is None else add_bias(y, self.bias[...])


class Conv(_AddsBias, nnx.Conv):
    """`nnx.Conv`, whose bias is added by `add_bias`."""


class ConvTranspose(_AddsBias, BlockConvTranspose):
    """`nnx.ConvTranspose`, whose bias is added by `add_bias`."""

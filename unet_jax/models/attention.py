"""Attention gates for the skip connections of a U-Net."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from unet_jax.models.layers import LayerOptions, conv, relu, upsample_linear


class AttentionGate(nnx.Module):
    """Weights each place of a skip connection, given the features of the next coarser level (Oktay et al. 2018).

    With skip x and gating signal g, of half its size, the weight is σ(ψ(ReLU(W_x x + W_g g + b)) + b_ψ)
    (equations 1 and 2), resized to x by linear interpolation. W_x is a 2×2 convolution of stride 2, as in the
    authors' code; W_g and ψ are 1×1. The features in between have as many channels as x.
    """

    def __init__(self, skip_features: int, gate_features: int, options: LayerOptions):
        self.skip = conv(skip_features, skip_features, options, kernel=2, stride=2, padding="valid", use_bias=False)
        self.gate = conv(gate_features, skip_features, options, kernel=1)
        self.weight = conv(skip_features, 1, options, kernel=1)

    def __call__(
        self, skip: Float[Array, "b *spatial c"], gate: Float[Array, "b *half d"]
    ) -> Float[Array, "b *spatial c"]:
        """`skip`, each place multiplied by its weight between 0 and 1."""
        weight = jax.nn.sigmoid(self.weight(relu(self.skip(skip) + self.gate(gate))))
        for axis in range(1, weight.ndim - 1):
            weight = upsample_linear(weight, axis)
        return skip * weight

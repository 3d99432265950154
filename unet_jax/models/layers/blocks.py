"""The double convolution of U-Nets."""

from flax import nnx
from jaxtyping import Array, Float

from unet_jax.models.layers.activations import activation_function
from unet_jax.models.layers.convolutions import conv
from unet_jax.models.layers.norms import normalisation
from unet_jax.models.layers.options import LayerOptions
from unet_jax.models.layers.upsampling import Upsample, conv_joined


class DoubleConv(nnx.Module):
    """Twice: 3×3 (or 3×3×3) convolution, normalisation, activation.

    Convolutions have a bias if nothing normalises.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        options: LayerOptions,
        *,
        norm: str,
        activation: str = "relu",
        padding: str = "same",
    ):
        settings = {"kernel": 3, "padding": padding, "use_bias": norm == "none"}
        self.activation = activation_function(activation)
        self.conv1 = conv(in_features, out_features, options, **settings)
        self.conv2 = conv(out_features, out_features, options, **settings)
        self.norm1 = normalisation(norm, out_features, options)
        self.norm2 = normalisation(norm, out_features, options)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial2 d"]:
        """Features of the same size, or with padding "valid" four samples smaller an axis."""
        return self._after_first(self.conv1(x))

    def joined(
        self, upsample: Upsample, x: Float[Array, "b *half c"], skip: Float[Array, "b *spatial d"]
    ) -> Float[Array, "b *spatial2 e"]:
        """The block of the concatenation [upsample(x), skip] over channels."""
        return self._after_first(conv_joined(self.conv1, upsample, x, skip))

    def _after_first(self, x: Float[Array, "b *spatial d"]) -> Float[Array, "b *spatial2 d"]:
        x = self.activation(x if self.norm1 is None else self.norm1(x))
        x = self.conv2(x)
        return self.activation(x if self.norm2 is None else self.norm2(x))

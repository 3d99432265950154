"""The U-Net (Ronneberger, Fischer, Brox 2015) with its usual choices as arguments, in 2-D and 3-D."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unet_jax.errors import InputError
from unet_jax.models.attention import AttentionGate
from unet_jax.models.fast.bias import Conv
from unet_jax.models.fast.convolution import backend_for
from unet_jax.models.fast.upsampled_conv import conv_joined
from unet_jax.models.layers import DoubleConv, conv, crop, max_pool
from unet_jax.models.sizes import check_size
from unet_jax.models.upsample import Upsample

# Where channels are mixed before they are upsampled; see upsampled_conv. On a TPU it was not measured.
MIXING_PAYS = ("cpu", "gpu")


class UNet(nnx.Module):
    """Encoder and decoder of double convolutions, joined level by level.

    Level i of `depth` has `width * 2**i` channels and 1/2**i of the image's size; between levels stand 2×2
    max pooling on the way down, and on the way up a doubling of the size and the concatenation [upsampled, skip].

    A new network is in training mode, in which dropout needs a key: `nnx.view(model, dropout_key=key)`. For
    prediction take `nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)`.

    Attributes:
        divisor: what image sizes have to divide by, once `margin` is taken off.
        margin: pixels by which the image exceeds the logits at every border; see `sizes`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int = 64,
        depth: int = 4,
        norm: str = "none",
        activation: str = "relu",
        up: str = "bilinear",
        padding: str = "same",
        init: str = "torch",
        dropout: float = 0.0,
        attention: bool = False,
        deep_supervision: bool = False,
        rank: int = 2,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the network.

        Args:
            in_channels: sequences of the image.
            num_classes: channels of the logits; 1 is tumour against the rest.
            width: channels of the first level.
            depth: levels, the first included; there are `depth - 1` poolings.
            norm: what follows each convolution: one of `layers.NORMS`.
            activation: what follows that: one of `layers.ACTIVATIONS`.
            up: what doubles the size: one of `upsample.UPS`. "bilinear" is trilinear in 3-D.
            padding: of the double convolutions. "same" gives logits of the image's size; with "valid" they depend
                on nothing but image, and the skips are cropped to fit.
            init: how parameters start: "torch", PyTorch's default, or "he", N(0, √(2/N)) (the 2015 paper,
                section 3).
            dropout: the share of values set to 0 at the end of the contracting path, on its last two levels.
            attention: whether attention gates (Oktay et al. 2018) weigh the skips.
            deep_supervision: whether, in training mode, every level of the decoder gives logits.
            rank: 2 for slices, 3 for volumes.
            dtype: what every layer computes in; parameters are float32.
            rngs: where the initial parameters come from.

        Raises:
            InputError: an argument is out of its range.
        """
        if rank not in (2, 3):
            raise InputError(f"config.model.rank is {rank}; it must be 2 (slices) or 3 (volumes).")
        if width < 1 or depth < 1:
            raise InputError(f"config.model.width is {width} and depth {depth}; both must be at least 1.")
        if not 0 <= dropout < 1:
            raise InputError(f"config.model.dropout is {dropout}; it must be at least 0 and below 1.")
        if deep_supervision and padding == "valid":
            raise InputError(
                'config.model has deep_supervision and padding "valid", whose coarser logits no mask fits: '
                'leave one out, or use padding "same".'
            )
        common = {"rank": rank, "rngs": rngs, "dtype": dtype, "init": init}
        block = {"norm": norm, "activation": activation, "padding": padding, **common}
        widths = [width * 2**level for level in range(depth)]
        self.dtype = dtype
        self.divisor = 2 ** (depth - 1)
        self.margin = 6 * self.divisor - 4 if padding == "valid" else 0
        self.encoder = nnx.List(
            DoubleConv(before, after, **block) for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.dropout = nnx.Dropout(dropout)
        self.upsamples, self.gates, self.decoder = nnx.List(), nnx.List(), nnx.List()
        for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True):
            upsample = Upsample(below, here, how=up, **common)
            self.upsamples.append(upsample)
            self.gates.append(AttentionGate(here, below, **common) if attention else None)
            self.decoder.append(DoubleConv(upsample.out_features + here, here, **block))
        self.head = conv(width, num_classes, kernel=1, **common)
        side_widths = widths[-2:0:-1] if deep_supervision else []
        self.side_heads = nnx.List(conv(w, num_classes, kernel=1, **common) for w in side_widths)
        self.deep_supervision = deep_supervision
        self.deterministic = False
        self.dropout_key = nnx.data(None)

    def set_view(self, deterministic: bool | None = None, dropout_key: Array | None = None) -> None:
        """What `nnx.view` can set.

        Args:
            deterministic: True for prediction: no dropout, and the finest logits alone.
            dropout_key: the key of the next call's dropout.
        """
        if deterministic is not None:
            self.deterministic = deterministic
        if dropout_key is not None:
            self.dropout_key = dropout_key

    def __call__(
        self, image: Float[Array, "b *spatial c"]
    ) -> Float[Array, "b *size classes"] | tuple[Float[Array, "b *_ classes"], ...]:
        """Logits in `dtype`, of the image's size less 2 `margin` an axis.

        With `deep_supervision`, in training mode: a tuple of logits, at the full size, 1/2, 1/4 … of it.

        Raises:
            InputError: an axis less `margin` does not divide by 2**(depth - 1).
        """
        check_size(image.shape[1:-1], self.divisor, self.margin)
        *skips, x = self._encode(image.astype(self.dtype))
        levels = []
        for upsample, gate, block in zip(self.upsamples, self.gates, self.decoder, strict=True):
            skip = crop(skips.pop(), [2 * n for n in x.shape[1:-1]])
            if gate is not None:
                skip = gate(skip, x)
            x = block.after_first(self._join(block.conv1, upsample, x, skip))
            levels.append(x)
        logits = self.head(x)
        if self.deep_supervision and not self.deterministic:
            sides = [head(level) for head, level in zip(self.side_heads, levels[:-1], strict=True)]
            return (logits, *reversed(sides))
        return logits

    def _encode(self, x: Float[Array, "b *spatial c"]) -> list[Float[Array, "b *_ d"]]:
        """What each level of the contracting path gives, the finest first."""
        levels = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else max_pool(x))
            if level >= len(self.encoder) - 2:
                x = self._drop(x, level)
            levels.append(x)
        return levels

    def _join(
        self, first: Conv, upsample: Upsample, x: Float[Array, "b *spatial c"], skip: Float[Array, "b *doubled d"]
    ) -> Float[Array, "b *doubled2 e"]:
        """The convolution `first` of the concatenation [upsampled x, skip]."""
        pays = backend_for(x.shape) in MIXING_PAYS
        if pays and upsample.how == "bilinear" and x.ndim == 4 and not self.margin:
            return conv_joined(first, x, skip)
        return first(jnp.concatenate([upsample(x), skip], axis=-1))

    def _drop(self, x: Float[Array, "b *spatial c"], level: int) -> Float[Array, "b *spatial c"]:
        if self.deterministic or self.dropout.rate == 0:
            return x
        if self.dropout_key is None:
            raise ValueError("dropout in training needs a key: call nnx.view(model, dropout_key=key).")
        return self.dropout(x, rngs=jax.random.fold_in(self.dropout_key, level))

"""The U-Net (Ronneberger, Fischer, Brox 2015) with its usual choices as arguments, in 2-D and 3-D."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unet_jax.errors import InputError
from unet_jax.models.attention import AttentionGate
from unet_jax.models.layers import DoubleConv, LayerOptions, Upsample, check_remat, conv, crop, max_pool, recomputed
from unet_jax.models.sizes import check_size


class UNet(nnx.Module):
    """Encoder and decoder of double convolutions, joined level by level.

    Level i of `depth` has `width * 2**i` channels and 1/2**i of the image's size. On the way down, 2×2 max pooling
    separates the levels; on the way up, the size is doubled and the skip is concatenated: [upsampled, skip].

    A new network is in training mode, in which dropout needs a key: `nnx.view(model, dropout_key=key)`. For
    prediction, use `nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)`.

    Attributes:
        dtype: the type that layers compute in.
        divisor: what image sizes, less `margin`, must divide by.
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
        remat: int = 0,
        rank: int = 2,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the network.

        Args:
            in_channels: channels of the image.
            num_classes: channels of the logits; 1 is foreground against background.
            width: channels of the first level.
            depth: number of levels; there are `depth - 1` poolings.
            norm: normalisation after each convolution: one of `layers.NORMS`.
            activation: activation after that: one of `layers.ACTIVATIONS`.
            up: how the size is doubled: one of `layers.UPS`. "bilinear" is trilinear in 3-D.
            padding: of the double convolutions. "same" gives logits of the image's size. With "valid" logits depend
                on image pixels only, never on padding, and skips are cropped to fit.
            init: how convolutions are initialised: "torch", PyTorch's default, or "he", N(0, √(2/N)) (the 2015 paper,
                section 3).
            dropout: the share of values set to 0 at the end of the contracting path, on its last two levels; at
                least 0 and below 1.
            attention: whether attention gates (Oktay et al. 2018) weight the skips.
            deep_supervision: whether, in training mode, every level of the decoder gives logits.
            remat: how many levels, from the first one on, keep no features for the gradient but compute them again.
            rank: 2 for slices, 3 for volumes.
            dtype: the type that layers compute in; parameters are float32.
            rngs: source of the initial parameters.

        Raises:
            InputError: an argument is out of its range.
        """
        options = LayerOptions(rank, dtype, rngs, init)
        if width < 1 or depth < 1:
            raise InputError(f"width is {width} and depth {depth}; both must be at least 1.")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout is {dropout}; it must be at least 0 and below 1.")
        if deep_supervision and padding == "valid":
            raise InputError(
                'deep_supervision goes with no padding "valid", whose coarser logits no mask fits: '
                'leave one out, or use padding "same".'
            )
        check_remat(remat)
        block = {"norm": norm, "activation": activation, "padding": padding}
        widths = [width * 2**level for level in range(depth)]
        self.dtype = dtype
        self.divisor = 2 ** (depth - 1)
        self.margin = 6 * self.divisor - 4 if padding == "valid" else 0
        self.encoder = nnx.List(
            DoubleConv(before, after, options, **block)
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.dropout = nnx.Dropout(dropout)
        self.upsamples, self.gates, self.decoder = nnx.List(), nnx.List(), nnx.List()
        for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True):
            upsample = Upsample(below, here, options, how=up)
            self.upsamples.append(upsample)
            self.gates.append(AttentionGate(here, below, options) if attention else None)
            self.decoder.append(DoubleConv(upsample.out_features + here, here, options, **block))
        self.head = conv(width, num_classes, options, kernel=1)
        side_widths = widths[-2:0:-1] if deep_supervision else []
        self.side_heads = nnx.List(conv(w, num_classes, options, kernel=1) for w in side_widths)
        self.remat = remat
        self.deep_supervision = deep_supervision
        self.deterministic = False
        self.dropout_key = nnx.data(None)

    def set_view(self, deterministic: bool | None = None, dropout_key: Array | None = None) -> None:
        """Sets what `nnx.view` is given.

        Args:
            deterministic: True for prediction: no dropout, and only the finest logits.
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

        With `deep_supervision` in training mode: a tuple of logits, at the full size, 1/2, 1/4 … of it.

        Raises:
            InputError: an axis less `margin` does not divide by 2**(depth - 1).
            ValueError: dropout in training mode has no key.
        """
        check_size(image.shape[1:-1], self.divisor, self.margin)
        again = 0 if self.deterministic else self.remat
        *skips, x = self._encode(image.astype(self.dtype), again)
        levels = []
        for upsample, gate, block in zip(self.upsamples, self.gates, self.decoder, strict=True):
            x = recomputed(_decode, len(skips) <= again)(upsample, gate, block, x, skips.pop())
            levels.append(x)
        logits = self.head(x)
        if self.deep_supervision and not self.deterministic:
            sides = [head(level) for head, level in zip(self.side_heads, levels[:-1], strict=True)]
            return (logits, *reversed(sides))
        return logits

    def _encode(self, x: Float[Array, "b *spatial c"], again: int) -> list[Float[Array, "b *_ d"]]:
        """The features of each level of the contracting path, the finest first; so many of them are recomputed."""
        levels = []
        for level, block in enumerate(self.encoder):
            x = recomputed(_encode, level < again)(block, x if level == 0 else max_pool(x))
            if level >= len(self.encoder) - 2:
                x = self._drop(x, level)
            levels.append(x)
        return levels

    def _drop(self, x: Float[Array, "b *spatial c"], level: int) -> Float[Array, "b *spatial c"]:
        if self.deterministic or self.dropout.rate == 0:
            return x
        if self.dropout_key is None:
            raise ValueError("dropout in training needs a key: call nnx.view(model, dropout_key=key).")
        return self.dropout(x, rngs=jax.random.fold_in(self.dropout_key, level))


def _encode(block: nnx.Module, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial2 d"]:
    return block(x)


def _decode(
    upsample: nnx.Module,
    gate: nnx.Module | None,
    block: nnx.Module,
    x: Float[Array, "b *half c"],
    skip: Float[Array, "b *spatial d"],
) -> Float[Array, "b *spatial2 e"]:
    skip = crop(skip, [2 * n for n in x.shape[1:-1]])
    return block.joined(upsample, x, skip if gate is None else gate(skip, x))

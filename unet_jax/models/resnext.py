"""The second U-Net of the LGG Kaggle kernel: its encoder is a ResNeXt (Xie et al. 2017)."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unet_jax.errors import InputError
from unet_jax.models.layers import LayerOptions, conv, conv_transposed, he_normal, normalisation, relu
from unet_jax.models.sizes import check_size

# Output channels of a bottleneck, over `width` times 2**stage.
EXPANSION = 4


class ResNeXtUNet(nnx.Module):
    """A U-Net on the four stages of ResNeXt-50 32×4d, without the max pooling of its stem.

    The stages have 1/2, 1/4, 1/8 and 1/16 of the image's size. On the way up, features are doubled in size and added
    to those of the stage before; a last doubling reaches the image's size.

    Attributes:
        dtype: the type that layers compute in.
        divisor: what image sizes must divide by: 2**len(depths).
        margin: 0, as the logits have the image's size; see `sizes`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int = 64,
        depths: Sequence[int] = (3, 4, 6, 3),
        cardinality: int = 32,
        group_width: int = 4,
        rank: int = 2,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the network.

        Args:
            in_channels: channels of the image.
            num_classes: channels of the logits; 1 is foreground against background.
            width: channels of the stem; stage i, counted from 0, has 4 · width · 2**i output channels.
            depths: number of bottlenecks of each stage.
            cardinality: groups of the bottlenecks' 3×3 convolutions.
            group_width: channels of a group in the first stage; each later stage has twice as many.
            rank: 2 for slices, 3 for volumes.
            dtype: the type that layers compute in; parameters are float32.
            rngs: source of the initial parameters.

        Raises:
            InputError: an argument is out of its range.
        """
        options = LayerOptions(rank, dtype, rngs)
        if min(width, cardinality, group_width) < 1:
            raise InputError(
                f"width is {width}, cardinality {cardinality} and group_width {group_width}; all must be at least 1."
            )
        if not depths or min(depths) < 1:
            raise InputError(f"depths is {tuple(depths)}; it must list stages of at least 1 bottleneck each.")
        self.dtype = dtype
        self.divisor, self.margin = 2 ** len(depths), 0
        self.encoder = Encoder(
            in_channels, options, width=width, depths=depths, cardinality=cardinality, group_width=group_width
        )
        stages = [EXPANSION * width * 2**stage for stage in range(len(depths))]
        self.decoder = nnx.List(
            DecoderBlock(below, here, options)
            for below, here in zip(stages[::-1], [*stages[-2::-1], stages[0]], strict=True)
        )
        self.smooth = conv(stages[0], stages[0] // 2, options, kernel=3)
        self.head = conv(stages[0] // 2, num_classes, options, kernel=3)

    def __call__(self, image: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial classes"]:
        """Logits of the image's size, in `dtype`.

        Raises:
            InputError: a spatial axis does not divide by 2**len(depths), which is 16 for ResNeXt-50.
        """
        check_size(image.shape[1:-1], self.divisor)
        *skips, x = self.encoder(image.astype(self.dtype))
        for block in self.decoder:
            x = block(x)
            if skips:
                x = x + skips.pop()
        return self.head(relu(self.smooth(x)))


class Encoder(nnx.Module):
    """ResNeXt without the max pooling of its stem and without its classifier, laid out as in torchvision."""

    def __init__(
        self,
        in_channels: int,
        options: LayerOptions,
        *,
        width: int,
        depths: Sequence[int],
        cardinality: int,
        group_width: int,
    ):
        self.stem = conv_normalised(in_channels, width, options, kernel=7, stride=2)
        self.stem_norm = normalisation("batch", width, options)
        self.stages = nnx.List()
        features = width
        for stage, depth in enumerate(depths):
            blocks = nnx.List()
            for block in range(depth):
                blocks.append(
                    Bottleneck(
                        features,
                        EXPANSION * width * 2**stage,
                        options,
                        inner=cardinality * group_width * 2**stage,
                        cardinality=cardinality,
                        stride=2 if stage > 0 and block == 0 else 1,
                    )
                )
                features = EXPANSION * width * 2**stage
            self.stages.append(blocks)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> list[Float[Array, "b *smaller d"]]:
        """The features of each stage: the first at half the size of `x`, each later one at half the one before."""
        x = relu(self.stem_norm(self.stem(x)))
        outputs = []
        for blocks in self.stages:
            for block in blocks:
                x = block(x)
            outputs.append(x)
        return outputs


class Bottleneck(nnx.Module):
    """1×1, grouped 3×3, 1×1 convolution, each batch-normalised, plus a shortcut (Xie et al. 2017, figure 3c).

    The 3×3 convolution carries the stride. Where size or channels change, the shortcut is a batch-normalised 1×1
    convolution.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        options: LayerOptions,
        *,
        inner: int,
        cardinality: int,
        stride: int,
    ):
        self.conv1 = conv_normalised(in_features, inner, options, kernel=1)
        self.norm1 = normalisation("batch", inner, options)
        self.conv2 = conv_normalised(inner, inner, options, kernel=3, stride=stride, groups=cardinality)
        self.norm2 = normalisation("batch", inner, options)
        self.conv3 = conv_normalised(inner, out_features, options, kernel=1)
        self.norm3 = normalisation("batch", out_features, options)
        self.projects = stride > 1 or in_features != out_features
        if self.projects:
            self.shortcut = conv_normalised(in_features, out_features, options, kernel=1, stride=stride)
            self.shortcut_norm = normalisation("batch", out_features, options)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *smaller d"]:
        """Features of 1/stride of the size, none negative."""
        shortcut = self.shortcut_norm(self.shortcut(x)) if self.projects else x
        x = relu(self.norm1(self.conv1(x)))
        x = relu(self.norm2(self.conv2(x)))
        return relu(self.norm3(self.conv3(x)) + shortcut)


class DecoderBlock(nnx.Module):
    """Doubles the size on a quarter of the channels: 1×1, 4×4 transposed and 1×1 convolution."""

    def __init__(self, in_features: int, out_features: int, options: LayerOptions):
        inner = in_features // 4
        self.conv1 = conv(in_features, inner, options, kernel=1)
        self.transposed = conv_transposed(inner, inner, options, kernel=4, stride=2)
        self.conv2 = conv(inner, out_features, options, kernel=1)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *larger d"]:
        """Features of twice the size, none negative."""
        x = relu(self.conv1(x))
        return relu(self.conv2(self.transposed(x)))


def conv_normalised(
    in_features: int, out_features: int, options: LayerOptions, *, kernel: int, stride: int = 1, groups: int = 1
) -> nnx.Conv:
    """A convolution without bias, to be normalised; output j is centred on sample stride · j, as in PyTorch.

    Initialised like torchvision's residual networks, from N(0, √(2 / fan_out)) (He et al. 2015, section 2.2).
    """
    return nnx.Conv(
        in_features,
        out_features,
        kernel_size=(kernel,) * options.rank,
        strides=(stride,) * options.rank,
        padding=((kernel // 2, kernel // 2),) * options.rank,
        feature_group_count=groups,
        use_bias=False,
        dtype=options.dtype,
        kernel_init=he_normal(out_features * kernel**options.rank),
        rngs=options.rngs,
    )

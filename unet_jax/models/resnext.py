"""The second U-Net of the LGG Kaggle kernel: a ResNeXt (Xie et al. 2017) encodes."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unet_jax.errors import InputError
from unet_jax.models.fast.bias import ConvTranspose
from unet_jax.models.layers import conv, he_normal, normalisation, relu, torch_uniform
from unet_jax.models.sizes import check_size

# Channels that a bottleneck gives out, for each of its stage's own.
EXPANSION = 4


class ResNeXtUNet(nnx.Module):
    """A U-Net on the four stages of ResNeXt-50 32×4d, whose stem has no max pooling here.

    The stages stand at 1/2, 1/4, 1/8 and 1/16 of the image's size. On the way up each is doubled and added to
    the one before; a last doubling reaches the image's size.
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
            in_channels: sequences of the image.
            num_classes: channels of the logits; 1 is tumour against the rest.
            width: channels of the stem; stage i, counted from 0, gives out 4 · width · 2**i.
            depths: bottlenecks of each stage.
            cardinality: groups of the bottlenecks' 3×3 convolutions.
            group_width: channels of a group in the first stage, doubled with each further one.
            rank: 2 for slices, 3 for volumes.
            dtype: what every layer computes in; parameters are float32.
            rngs: where the initial parameters come from.

        Raises:
            InputError: an argument is out of its range.
        """
        if rank not in (2, 3):
            raise InputError(f"config.model.rank is {rank}; it must be 2 (slices) or 3 (volumes).")
        if min(width, cardinality, group_width) < 1:
            raise InputError(
                f"config.model.width is {width}, cardinality {cardinality} and group_width {group_width}; "
                "all must be at least 1."
            )
        if not depths or min(depths) < 1:
            raise InputError(
                f"config.model.depths is {tuple(depths)}; it must list stages of at least 1 bottleneck each."
            )
        common = {"rank": rank, "rngs": rngs, "dtype": dtype}
        self.dtype = dtype
        self.divisor, self.margin = 2 ** len(depths), 0
        self.encoder = Encoder(
            in_channels,
            width=width,
            depths=depths,
            cardinality=cardinality,
            group_width=group_width,
            **common,
        )
        stages = [EXPANSION * width * 2**stage for stage in range(len(depths))]
        self.decoder = nnx.List(
            DecoderBlock(below, here, **common)
            for below, here in zip(stages[::-1], [*stages[-2::-1], stages[0]], strict=True)
        )
        self.smooth = conv(stages[0], stages[0] // 2, kernel=3, **common)
        self.head = conv(stages[0] // 2, num_classes, kernel=3, **common)

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
    """ResNeXt without its stem's max pooling and its classifier, as torchvision lays it out."""

    def __init__(
        self,
        in_channels: int,
        *,
        width: int,
        depths: Sequence[int],
        cardinality: int,
        group_width: int,
        rank: int,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ):
        common = {"rank": rank, "rngs": rngs, "dtype": dtype}
        self.stem = conv_normalised(in_channels, width, kernel=7, stride=2, **common)
        self.stem_norm = normalisation("batch", width, rngs=rngs, dtype=dtype)
        self.stages = nnx.List()
        features = width
        for stage, depth in enumerate(depths):
            blocks = nnx.List()
            for block in range(depth):
                blocks.append(
                    Bottleneck(
                        features,
                        EXPANSION * width * 2**stage,
                        inner=cardinality * group_width * 2**stage,
                        cardinality=cardinality,
                        stride=2 if stage > 0 and block == 0 else 1,
                        **common,
                    )
                )
                features = EXPANSION * width * 2**stage
            self.stages.append(blocks)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> list[Float[Array, "b *smaller d"]]:
        """What each stage gives: the first at half the size of `x`, each further at half the one before."""
        x = relu(self.stem_norm(self.stem(x)))
        outputs = []
        for blocks in self.stages:
            for block in blocks:
                x = block(x)
            outputs.append(x)
        return outputs


class Bottleneck(nnx.Module):
    """1×1, grouped 3×3, 1×1 convolution, each batch-normalised, plus a shortcut (Xie et al. 2017, figure 3c).

    The stride is the 3×3 convolution's. Where size or channels change, a 1×1 convolution is the shortcut.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        inner: int,
        cardinality: int,
        stride: int,
        rank: int,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ):
        common = {"rank": rank, "rngs": rngs, "dtype": dtype}
        norm = {"rngs": rngs, "dtype": dtype}
        self.conv1 = conv_normalised(in_features, inner, kernel=1, **common)
        self.norm1 = normalisation("batch", inner, **norm)
        self.conv2 = conv_normalised(inner, inner, kernel=3, stride=stride, groups=cardinality, **common)
        self.norm2 = normalisation("batch", inner, **norm)
        self.conv3 = conv_normalised(inner, out_features, kernel=1, **common)
        self.norm3 = normalisation("batch", out_features, **norm)
        self.projects = stride > 1 or in_features != out_features
        if self.projects:
            self.shortcut = conv_normalised(in_features, out_features, kernel=1, stride=stride, **common)
            self.shortcut_norm = normalisation("batch", out_features, **norm)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *smaller d"]:
        """Features of 1/stride of the size, none negative."""
        shortcut = self.shortcut_norm(self.shortcut(x)) if self.projects else x
        x = relu(self.norm1(self.conv1(x)))
        x = relu(self.norm2(self.conv2(x)))
        return relu(self.norm3(self.conv3(x)) + shortcut)


class DecoderBlock(nnx.Module):
    """Doubles the size, on a quarter of the channels: 1×1, 4×4 transposed and 1×1 convolution."""

    def __init__(self, in_features: int, out_features: int, *, rank: int, rngs: nnx.Rngs, dtype: DTypeLike):
        common = {"rank": rank, "rngs": rngs, "dtype": dtype}
        inner = in_features // 4
        init = torch_uniform(inner * 4**rank)
        self.conv1 = conv(in_features, inner, kernel=1, **common)
        self.transposed = ConvTranspose(
            inner,
            inner,
            kernel_size=(4,) * rank,
            strides=(2,) * rank,
            dtype=dtype,
            kernel_init=init,
            bias_init=init,
            rngs=rngs,
        )
        self.conv2 = conv(inner, out_features, kernel=1, **common)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *larger d"]:
        """Features of twice the size, none negative."""
        x = relu(self.conv1(x))
        return relu(self.conv2(self.transposed(x)))


def conv_normalised(
    in_features: int,
    out_features: int,
    *,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    rank: int,
    rngs: nnx.Rngs,
    dtype: DTypeLike,
) -> nnx.Conv:
    """A convolution without bias, to be normalised; output j is centred on sample stride · j, as in PyTorch.

    Initialised as torchvision's residual networks, from N(0, √(2 / fan_out)) (He et al. 2015, section 2.2).
    """
    return nnx.Conv(
        in_features,
        out_features,
        kernel_size=(kernel,) * rank,
        strides=(stride,) * rank,
        padding=((kernel // 2, kernel // 2),) * rank,
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        kernel_init=he_normal(out_features * kernel**rank),
        rngs=rngs,
    )

"""The networks of nnU-Net (Isensee et al. 2021): plain, and with a residual encoder (Isensee et al. 2024)."""

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unet_jax.errors import InputError
from unet_jax.models.layers import (
    LEAKY_SLOPE,
    LayerOptions,
    activation_function,
    average_pool,
    check_remat,
    conv,
    conv_transposed,
    each_axis,
    normalisation,
    recomputed,
)
from unet_jax.models.sizes import check_size

leaky_relu = activation_function("leaky_relu")


class NNUNet(nnx.Module):
    """A U-Net of instance-normalised convolutions whose every stage has its own width, kernel and stride.

    On the way down, the first convolution of a stage carries its stride. On the way up, a transposed convolution
    of the same stride undoes it, and [upsampled, skip] passes through the stage's convolutions. As in nnU-Net,
    convolutions have a bias, although the normalisation after them removes it again.

    Attributes:
        dtype: the type that layers compute in.
        divisor: what each axis of an image must divide by.
        margin: 0, as the logits have the image's size; see `sizes`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        features: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
        kernels: int | Sequence[int | Sequence[int]] = 3,
        strides: int | Sequence[int | Sequence[int]] = 2,
        blocks: int | Sequence[int] = 2,
        decoder_blocks: int | Sequence[int] = 2,
        residual: bool = False,
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
            features: channels of each stage, the finest first; at least two stages. nnU-Net doubles them from 32 up to
                at most 512 in 2-D and 320 in 3-D.
            kernels: size of the kernels, odd: one number, or for each stage one number or one an axis.
            strides: one number for all stages but the first; or for each stage one number or one an axis, the
                first stage's 1.
            blocks: number of convolutions, or with `residual` of residual blocks, of the encoder's stages: one number,
                or one a stage.
            decoder_blocks: number of convolutions of the decoder's stages: one number, or one for each stage but the
                coarsest, from coarse to fine.
            residual: whether the encoder is residual: a convolution at full size, then blocks that add their input.
            deep_supervision: whether, in training mode, every stage of the decoder gives logits.
            remat: how many stages, from the finest on, keep no features for the gradient but compute them again.
            rank: 2 for slices, 3 for volumes.
            dtype: the type that layers compute in; parameters are float32.
            rngs: source of the initial parameters: kernels N(0, √(2/N)) (He et al. 2015), biases 0, and the last scale
                of each residual block 0.

        Raises:
            InputError: an argument is out of its range.
        """
        options = LayerOptions(rank, dtype, rngs, init="he")
        stages = len(features)
        if stages < 2 or min(features) < 1:
            raise InputError(f"features is {tuple(features)}; it must list two stages or more, all at least 1.")
        kernels = _each_stage("kernels", kernels, stages, rank)
        if any(n % 2 == 0 for kernel in kernels for n in kernel):
            raise InputError(f"kernels is {kernels}; every number must be odd.")
        if isinstance(strides, int):
            strides = (1, *(strides,) * (stages - 1))
        strides = _each_stage("strides", strides, stages, rank)
        if max(strides[0]) > 1:
            raise InputError(f"strides is {strides}; the first stage has the image's size: use 1.")
        blocks = _each_stage("blocks", blocks, stages, 1)
        decoder_blocks = _each_stage("decoder_blocks", decoder_blocks, stages - 1, 1)

        self.dtype = dtype
        self.divisor = tuple(math.prod(axis) for axis in zip(*strides, strict=True))
        self.margin = 0
        before = features[0] if residual else in_channels
        self.stem = ConvNorm(in_channels, before, options, kernel=kernels[0]) if residual else None
        self.encoder = nnx.List()
        for here, kernel, stride, (count,) in zip(features, kernels, strides, blocks, strict=True):
            block = functools.partial(ResidualBlock if residual else ConvNorm, options=options, kernel=kernel)
            rest = [block(here, here) for _ in range(count - 1)]
            self.encoder.append(nnx.Sequential(block(before, here, stride=stride), *rest))
            before = here
        self.upsamples, self.decoder = nnx.List(), nnx.List()
        coarse_to_fine = zip(
            features[:0:-1], features[-2::-1], kernels[-2::-1], strides[:0:-1], decoder_blocks, strict=True
        )
        for below, here, kernel, stride, (count,) in coarse_to_fine:
            self.upsamples.append(conv_transposed(below, here, options, stride=stride))
            inputs = [2 * here] + [here] * (count - 1)
            self.decoder.append(nnx.Sequential(*(ConvNorm(c, here, options, kernel=kernel) for c in inputs)))
        check_remat(remat)
        self.remat = remat
        self.deep_supervision = deep_supervision
        heads = features[:-1] if deep_supervision else features[:1]
        self.heads = nnx.List(conv(c, num_classes, options, kernel=1) for c in heads)
        self.deterministic = False

    def set_view(self, deterministic: bool | None = None) -> None:
        """Sets what `nnx.view` is given: `deterministic` is True for prediction, with only the finest logits."""
        if deterministic is not None:
            self.deterministic = deterministic

    def __call__(
        self, image: Float[Array, "b *spatial c"]
    ) -> Float[Array, "b *spatial classes"] | tuple[Float[Array, "b *_ classes"], ...]:
        """Logits of the image's size, in `dtype`.

        With `deep_supervision` in training mode: a tuple, the logits of every stage of the decoder, the finest first.

        Raises:
            InputError: an axis does not divide by the product of its strides.
        """
        check_size(image.shape[1:-1], self.divisor)
        again = 0 if self.deterministic else self.remat
        x = image.astype(self.dtype)
        skips = []
        for level, stage in enumerate(self.encoder):
            stem = self.stem if level == 0 else None
            x = recomputed(_encode, level < again)(stem, stage, x)
            skips.append(x)
        skips.pop()
        levels = []
        for upsample, stage in zip(self.upsamples, self.decoder, strict=True):
            x = recomputed(_decode, len(skips) <= again)(upsample, stage, x, skips.pop())
            levels.append(x)
        if self.deep_supervision and not self.deterministic:
            return tuple(head(level) for head, level in zip(self.heads, levels[::-1], strict=True))
        return self.heads[0](x)


def _encode(
    stem: nnx.Module | None, stage: nnx.Module, x: Float[Array, "b *spatial c"]
) -> Float[Array, "b *smaller d"]:
    return stage(x if stem is None else stem(x))


def _decode(
    upsample: nnx.Module, stage: nnx.Module, x: Float[Array, "b *smaller c"], skip: Float[Array, "b *spatial d"]
) -> Float[Array, "b *spatial d"]:
    return stage(jnp.concatenate([upsample(x), skip], axis=-1))


class ConvNorm(nnx.Module):
    """Convolution, instance normalisation, and leaky ReLU of slope 0.01 unless `activate` is False."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        options: LayerOptions,
        *,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        use_bias: bool = True,
        activate: bool = True,
        scale_init: nnx.Initializer = nnx.initializers.ones,
    ):
        self.activate = activate
        self.conv = conv(in_features, out_features, options, kernel=kernel, stride=stride, use_bias=use_bias)
        self.norm = normalisation("instance", out_features, options, scale_init=scale_init)

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *smaller d"]:
        """Features of 1/stride of the size."""
        return self.norm(self.conv(x), slope=LEAKY_SLOPE if self.activate else 1.0)


class ResidualBlock(nnx.Module):
    """Two convolutions plus a shortcut; leaky ReLU after the first and after the sum (He et al. 2016).

    Where the size changes, the shortcut is average-pooled by the stride; where the channels change, a 1×1 convolution
    without bias and a normalisation follow (ResNet-D, He et al. 2019, figure 2).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        options: LayerOptions,
        *,
        kernel: Sequence[int],
        stride: int | Sequence[int] = 1,
    ):
        self.stride = each_axis(stride, options.rank)
        self.conv1 = ConvNorm(in_features, out_features, options, kernel=kernel, stride=stride)
        # With a scale of 0 every block starts as its shortcut (Goyal et al. 2017, section 5.1).
        zeros = nnx.initializers.zeros
        self.conv2 = ConvNorm(out_features, out_features, options, kernel=kernel, activate=False, scale_init=zeros)
        self.shortcut = (
            ConvNorm(in_features, out_features, options, kernel=1, use_bias=False, activate=False)
            if in_features != out_features
            else None
        )

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *smaller d"]:
        """Features of 1/stride of the size."""
        shortcut = average_pool(x, self.stride)
        if self.shortcut is not None:
            shortcut = self.shortcut(shortcut)
        return leaky_relu(self.conv2(self.conv1(x)) + shortcut)


def _each_stage(key: str, value: int | Sequence[int | Sequence[int]], stages: int, rank: int) -> list[tuple[int, ...]]:
    """One number an axis for every stage.

    Raises:
        InputError: there is not one value a stage, or not one number an axis, or a number is below 1.
    """
    values = [value] * stages if isinstance(value, int) else value
    each = [each_axis(v, rank) for v in values]
    if len(each) != stages or any(len(v) != rank or min(v) < 1 for v in each):
        axes = f" or of {rank} numbers, one an axis" if rank > 1 else ""
        raise InputError(
            f"{key} is {value}; it must be a number, or a list of {stages}, one a stage{axes}; all at least 1."
        )
    return each

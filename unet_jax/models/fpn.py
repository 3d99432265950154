"""The feature pyramid network of the LGG Kaggle kernel: a U-Net's encoder, whose levels are summed into logits."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unet_jax.errors import InputError
from unet_jax.models.layers import DoubleConv, LayerOptions, conv, max_pool, relu
from unet_jax.models.sizes import check_size

LEVELS = 5


class FPN(nnx.Module):
    """Feature pyramid network (Lin et al. 2017) for segmentation (Kirillov et al. 2019, section 3.1).

    Five double convolutions, each followed by 2×2 max pooling, give features c1 … c5 at 1/2 … 1/32 of the image's
    size. p5 is c5 projected to `pyramid_width` channels; each of p4, p3, p2 is the level above, doubled in size, plus
    its own features projected to that width. All but p5 pass through a 3×3 convolution. Then a branch takes each level
    to 1/4 of the image's size; their sum becomes the logits, which are enlarged four times.

    Attributes:
        dtype: the type that layers compute in.
        divisor: what image sizes must divide by: 32.
        margin: 0, as the logits have the image's size; see `sizes`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int = 64,
        pyramid_width: int = 256,
        groups: int = 32,
        rank: int = 2,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the network.

        Args:
            in_channels: channels of the image.
            num_classes: channels of the logits; 1 is foreground against background.
            width: channels of the first double convolution; each later one has twice as many.
            pyramid_width: channels of every pyramid level and of the branches.
            groups: groups of the branches' group normalisation.
            rank: 2 for slices, 3 for volumes.
            dtype: the type that layers compute in; parameters are float32.
            rngs: source of the initial parameters.

        Raises:
            InputError: an argument is out of its range.
        """
        options = LayerOptions(rank, dtype, rngs)
        if width < 1:
            raise InputError(f"width is {width}; it must be at least 1.")
        if pyramid_width < 1 or groups < 1 or pyramid_width % groups:
            raise InputError(
                f"pyramid_width is {pyramid_width} and groups {groups}; the width must be a "
                "multiple of the groups, both at least 1."
            )
        widths = [width * 2**level for level in range(LEVELS)]
        self.dtype = dtype
        self.divisor, self.margin = 2**LEVELS, 0
        self.encoder = nnx.List(
            DoubleConv(before, after, options, norm="none")
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.laterals = nnx.List(conv(c, pyramid_width, options, kernel=1) for c in widths[:0:-1])
        self.smooths = nnx.List(conv(pyramid_width, pyramid_width, options, kernel=3) for _ in range(3))
        self.branches = nnx.List(
            Branch(pyramid_width, options, doublings=doublings, groups=groups) for doublings in (3, 2, 1, 0)
        )
        self.head = conv(pyramid_width, num_classes, options, kernel=1)

    def __call__(self, image: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial classes"]:
        """Logits of the image's size, in `dtype`.

        Raises:
            InputError: a spatial axis does not divide by 32.
        """
        check_size(image.shape[1:-1], self.divisor)
        x = image.astype(self.dtype)
        features = []
        for block in self.encoder:
            x = max_pool(block(x))
            features.append(x)
        top, *laterals = self.laterals
        x = top(features.pop())
        pyramid = [x]
        for lateral, smooth in zip(laterals, self.smooths, strict=True):
            x = enlarge(x, 2) + lateral(features.pop())
            pyramid.append(smooth(x))
        total = sum(branch(level) for branch, level in zip(self.branches, pyramid, strict=True))
        return enlarge(self.head(total), 4)


class Branch(nnx.Module):
    """Takes a pyramid level to the finest one's size, by blocks of convolution, normalisation, ReLU and doubling.

    With 0 doublings it is one such block, without the doubling.
    """

    def __init__(self, features: int, options: LayerOptions, *, doublings: int, groups: int):
        blocks = range(max(doublings, 1))
        self.doublings = doublings
        self.convs = nnx.List(conv(features, features, options, kernel=3, use_bias=False) for _ in blocks)
        self.norms = nnx.List(
            nnx.GroupNorm(features, num_groups=groups, epsilon=1e-5, dtype=options.dtype, rngs=options.rngs)
            for _ in blocks
        )

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *larger c"]:
        """Features of 2**doublings times the size, none negative."""
        for convolution, norm in zip(self.convs, self.norms, strict=True):
            x = relu(norm(convolution(x)))
            if self.doublings:
                x = enlarge(x, 2)
        return x


def enlarge(x: Float[Array, "b *spatial c"], factor: int) -> Float[Array, "b *larger c"]:
    """Linear interpolation to `factor` times the samples on every spatial axis; the first and the last stay in place.

    This is align_corners=True: on an axis of n samples, output factor · k + r lies at input coordinate
    k + (r (n - 1) - (factor - 1) k) / (factor · n - 1), less than one sample from k.
    """
    for axis in range(1, x.ndim - 1):
        x = _enlarge_axis(x, axis, factor)
    return x


def _enlarge_axis(x: Array, axis: int, factor: int) -> Array:
    n = x.shape[axis]
    k = np.arange(n).reshape([n if i == axis else 1 for i in range(x.ndim)])
    first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, n - 1))
    before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, n - 1, axis=axis)], axis)
    after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, n, axis=axis), last], axis)
    outputs = []
    for r in range(factor):
        offset = (r * (n - 1) - (factor - 1) * k) / (factor * n - 1)
        output = x
        for neighbour, share in ((before, np.maximum(-offset, 0)), (after, np.maximum(offset, 0))):
            if share.any():
                output = output + jnp.asarray(share, x.dtype) * (neighbour - x)
        outputs.append(output)
    shape = (*x.shape[:axis], factor * n, *x.shape[axis + 1 :])
    return jnp.stack(outputs, axis + 1).reshape(shape)

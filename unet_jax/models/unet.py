"""The U-Net (Ronneberger, Fischer, Brox 2015) with its usual choices as arguments, in 2-D and 3-D."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unet_jax.errors import InputError
from unet_jax.models.layers import DoubleConv, Upsample, conv, max_pool


class UNet(nnx.Module):
    """Encoder and decoder of double convolutions, joined level by level.

    Level i of `depth` has `width * 2**i` channels and 1/2**i of the image's size; between levels stand 2×2 max
    pooling on the way down, and on the way up a doubling of the size and the concatenation [upsampled, skip].
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int = 64,
        depth: int = 4,
        norm: str = "none",
        up: str = "bilinear",
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
            up: what doubles the size: one of `layers.UPS`. "bilinear" is trilinear in 3-D.
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
        common = {"rank": rank, "rngs": rngs, "dtype": dtype}
        widths = [width * 2**level for level in range(depth)]
        self.dtype = dtype
        self.divisor = 2 ** (depth - 1)
        self.encoder = nnx.List(
            DoubleConv(before, after, norm=norm, **common)
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.upsamples, self.decoder = nnx.List(), nnx.List()
        for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True):
            upsample = Upsample(below, here, how=up, **common)
            self.upsamples.append(upsample)
            self.decoder.append(DoubleConv(upsample.out_features + here, here, norm=norm, **common))
        self.head = conv(width, num_classes, kernel=1, **common)

    def __call__(self, image: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial classes"]:
        """Logits of the image's size, in `dtype`.

        Raises:
            InputError: a spatial axis does not divide by 2**(depth - 1).
        """
        check_size(image.shape[1:-1], self.divisor)
        x = image.astype(self.dtype)
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else max_pool(x))
            skips.append(x)
        skips.pop()
        for upsample, block in zip(self.upsamples, self.decoder, strict=True):
            x = block(jnp.concatenate([upsample(x), skips.pop()], axis=-1))
        return self.head(x)


def check_size(size: tuple[int, ...], divisor: int) -> None:
    """Raises InputError, naming sizes that fit, unless every axis of `size` divides by `divisor`."""
    if any(n % divisor for n in size):
        below = tuple(max(n // divisor, 1) * divisor for n in size)
        above = tuple(-(-n // divisor) * divisor for n in size)
        raise InputError(f"the image is {size}; every axis must divide by {divisor}: use {below} or {above}.")

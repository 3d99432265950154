"""Transposed convolutions whose kernel is their stride: one matrix product, and blocks put in place.

Every sample becomes a block of its own, so nothing is summed over neighbours. XLA writes zeros between the samples and
convolves, on a CPU at a hundredth of the rate in 3-D. On a GPU its gradient of the kernel is a convolution with a
window as large as the image: nine tenths of a training step at 128³.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from unet_jax.models.fast.convolution import backend_for
from unet_jax.models.fast.partition import is_cut


class BlockConvTranspose(nnx.ConvTranspose):
    """`nnx.ConvTranspose`, by `conv_transposed` where that computes the same, and faster."""

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial2 d"]:
        """The output of flax's layer, to which a bias must not belong."""
        blocks = tuple(self.kernel_size) == tuple(self.strides) and self.padding == "SAME" and not self.use_bias
        # A block lies where its sample does, so that slabs need nothing of each other.
        if not blocks or not (is_cut() or backend_for(x.shape) in ("cpu", "gpu")):
            return super().__call__(x)
        x, kernel = self.promote_dtype((x, self.kernel[...]), dtype=self.dtype)
        return conv_transposed(x, kernel)


def conv_transposed(
    x: Float[Array, "b *spatial c"], kernel: Float[Array, "*size c d"]
) -> Float[Array, "b *spatial2 d"]:
    """`jax.lax.conv_transpose` with the kernel's size as strides and the padding "SAME"."""
    size, features = kernel.shape[:-2], kernel.shape[-1]
    # jax keeps the order of a convolution's taps, by which the last one reaches the first sample of a block.
    flipped = jnp.flip(kernel, range(len(size)))
    flat = jnp.moveaxis(flipped, -2, 0).reshape(x.shape[-1], -1)
    blocks = (x @ flat).reshape(*x.shape[:-1], *size, features)
    # [b, z, y, x, i, j, k, d] to [b, z, i, y, j, x, k, d]
    rank = len(size)
    order = [axis for n in range(1, rank + 1) for axis in (n, rank + n)]
    spatial = [n * s for n, s in zip(x.shape[1:-1], size, strict=True)]
    return blocks.transpose(0, *order, 2 * rank + 1).reshape(len(x), *spatial, features)

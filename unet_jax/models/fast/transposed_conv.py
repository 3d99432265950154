"""Transposed convolutions whose kernel is their stride: one matrix product, and blocks put in place.

Every sample becomes a block of its own, so nothing is summed over neighbours. XLA writes zeros between the samples and
convolves, on a CPU at a hundredth of the rate in 3-D. On a GPU its gradient of the kernel is a convolution with a
window as large as the image: nine tenths of a training step at 128³.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from unet_jax.models.fast.convolution import backend_for, geometry, has_code
from unet_jax.models.fast.native import calls
from unet_jax.models.fast.tracing import SLABS, is_traced_for


class BlockConvTranspose(nnx.ConvTranspose):
    """`nnx.ConvTranspose`, by `conv_transposed` where that computes the same, and faster."""

    def __call__(self, x: Float[Array, "b *spatial c"]) -> Float[Array, "b *spatial2 d"]:
        """The output of flax's layer, to which a bias must not belong."""
        blocks = tuple(self.kernel_size) == tuple(self.strides) and self.padding == "SAME" and not self.use_bias
        # A block lies where its sample does, so that slabs need nothing of each other.
        if not blocks or not (is_traced_for(SLABS) or backend_for(x.shape) in ("cpu", "gpu")):
            return super().__call__(x)
        x, kernel = self.promote_dtype((x, self.kernel[...]), dtype=self.dtype)
        return conv_transposed(x, kernel)


def conv_transposed(
    x: Float[Array, "b *spatial c"], kernel: Float[Array, "*size c d"]
) -> Float[Array, "b *spatial2 d"]:
    """`jax.lax.conv_transpose` with the kernel's size as strides and the padding "SAME"."""
    # jax keeps the order of a convolution's taps, by which the last one reaches the first sample of a block.
    flipped = jnp.flip(kernel, range(kernel.ndim - 2))
    if not has_code(x):
        return _blocks(x, flipped)
    wide, taps = x.astype(jnp.float32), flipped.astype(jnp.float32)
    if x.ndim == 5:
        return _blocks_on_cpu(wide, taps).astype(x.dtype)
    # An image is a volume of one plane.
    return _blocks_on_cpu(wide[:, None], taps[None])[:, 0].astype(x.dtype)


def _blocks(x: Float[Array, "b *spatial c"], taps: Float[Array, "*size c d"]) -> Float[Array, "b *spatial2 d"]:
    """Each sample's products with all taps, as a block in its place."""
    size, features = taps.shape[:-2], taps.shape[-1]
    flat = jnp.moveaxis(taps, -2, 0).reshape(x.shape[-1], -1)
    blocks = (x @ flat).reshape(*x.shape[:-1], *size, features)
    # [b, z, y, x, i, j, k, d] to [b, z, i, y, j, x, k, d]
    rank = len(size)
    order = [axis for n in range(1, rank + 1) for axis in (n, rank + n)]
    spatial = [n * s for n, s in zip(x.shape[1:-1], size, strict=True)]
    return blocks.transpose(0, *order, 2 * rank + 1).reshape(len(x), *spatial, features)


@jax.custom_vjp
def _blocks_on_cpu(x: Float[Array, "b z y x c"], taps: Float[Array, "r s t c d"]) -> Float[Array, "b z2 y2 x2 d"]:
    """`_blocks`, whose gradients are those of the convolution that takes the blocks apart again, with a stride."""
    return _blocks(x, taps)


def _forward(x: Array, taps: Array) -> tuple[Array, tuple[Array, Array]]:
    return _blocks(x, taps), (x, taps)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, taps = saved
    turned = taps.swapaxes(3, 4)
    like = geometry(gradient.shape, turned.shape, taps.shape[:3], ((0, 0),) * 3)
    of_taps = calls.kernel_gradient_of(gradient, x, like)
    return calls.convolve(gradient, turned, like), of_taps.swapaxes(3, 4)


_blocks_on_cpu.defvjp(_forward, _backward)

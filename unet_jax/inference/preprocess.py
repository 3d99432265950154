"""From the files' numbers to the network's input, and from its logits back to the files' geometry.

One definition for training, evaluation and prediction. All of it runs on the device, inside the jitted step.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, UInt8

# Pixels: an int or, in an export, a symbol that stands for any; jax has no public name for its type.
Size = Any


def prepare_image(
    image: UInt8[Array, "*lead h w c"] | Float32[Array, "*lead h w c"], size: int
) -> Float32[Array, "*lead {size} {size} c"]:
    """Intensities in [0, 1] where the file had uint8, and as they are where it had floats; size × size pixels."""
    scaled = image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image
    return _resize(_pad_to_square(scaled), size)


def prepare_mask(
    mask: UInt8[Array, "*lead h w"], size: int, classes: int = 1
) -> Float32[Array, "*lead {size} {size} {classes}"]:
    """0 or 1 for each class at size × size pixels.

    One class is where the mask, resized as an image is, reaches a half. Of several, background among them, it is the
    one with the largest share of the pixel, of equal ones the last.
    """
    square = _pad_to_square(mask[..., None].astype(jnp.float32))
    if classes == 1:
        return (_resize(square, size) >= 0.5).astype(jnp.float32)
    shares = _resize(jax.nn.one_hot(square[..., 0].astype(jnp.int32), classes + 1), size)
    largest = classes - jnp.argmax(shares[..., ::-1], axis=-1)
    return jax.nn.one_hot(largest, classes + 1)[..., 1:]


def prepare_weights(weights: Float32[Array, "*lead h w"], size: int) -> Float32[Array, "*lead {size} {size} 1"]:
    """Pixel weights at size × size pixels."""
    return _resize(_pad_to_square(weights[..., None]), size)


def restore_logits(
    logits: Float[Array, "*lead size size k"], height: Size, width: Size
) -> Float[Array, "*lead height width k"]:
    """Logits in the geometry that the image had before `prepare_image`."""
    side = jax.core.max_dim(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return _resize(logits, side)[..., top : top + height, left : left + width, :]


def _pad_to_square(x: Float[Array, "*lead h w c"]) -> Float[Array, "*lead side side c"]:
    """Zeros around the shorter axis, evenly on both sides."""
    height, width = x.shape[-3:-1]
    side = jax.core.max_dim(height, width)
    margins = [((side - n) // 2, side - n - (side - n) // 2) for n in (height, width)]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [*margins, (0, 0)])


def _resize(x: Float[Array, "*lead n n c"], size: Size) -> Float[Array, "*lead size size c"]:
    """Linear interpolation between pixel centres, averaging over what a pixel covers when it shrinks."""
    if x.shape[-2] == size:
        return x
    return jax.image.resize(x, (*x.shape[:-3], size, size, x.shape[-1]), "linear", antialias=True)

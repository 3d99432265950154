"""From the files' numbers to the network's input, and from its logits back to the files' geometry.

One definition for training, evaluation and prediction. All of it runs on the device, inside the jitted step.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32, UInt8

# Pixels: an int or, in an export, a symbol that stands for any; jax has no public name for its type.
Size = Any


def prepare_image(
    image: UInt8[Array, "*lead h w c"] | Float32[Array, "*lead h w c"],
    size: int,
    sizes: Int32[Array, "b 2"] | None = None,
) -> Float32[Array, "*lead {size} {size} c"]:
    """Intensities in [0, 1] where the file had uint8, and as they are where it had floats; size × size pixels.

    Args:
        image: as the files have it.
        size: rows and columns of the result, in pixels.
        sizes: rows and columns of each image of a batch, in pixels, where they differ: the images then lie in the upper
            left of h × w pixels, and each becomes what it becomes alone. None where all fill theirs.
    """
    scaled = image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image
    return _to_square(scaled, size, sizes)


def prepare_mask(
    mask: UInt8[Array, "*lead h w"], size: int, classes: int = 1, sizes: Int32[Array, "b 2"] | None = None
) -> Float32[Array, "*lead {size} {size} {classes}"]:
    """0 or 1 for each class at size × size pixels.

    One class is where the mask, resized as an image is, reaches a half. Of several, background among them, it is the
    one with the largest share of the pixel, of equal ones the last. `sizes` is as for `prepare_image`.
    """
    if classes == 1:
        return (_to_square(mask[..., None].astype(jnp.float32), size, sizes) >= 0.5).astype(jnp.float32)
    shares = _to_square(jax.nn.one_hot(mask.astype(jnp.int32), classes + 1), size, sizes)
    # What is padded is background.
    shares = shares.at[..., 0].add(1 - shares.sum(-1))
    largest = classes - jnp.argmax(shares[..., ::-1], axis=-1)
    return jax.nn.one_hot(largest, classes + 1)[..., 1:]


def prepare_weights(
    weights: Float32[Array, "*lead h w"], size: int, sizes: Int32[Array, "b 2"] | None = None
) -> Float32[Array, "*lead {size} {size} 1"]:
    """Pixel weights at size × size pixels; `sizes` is as for `prepare_image`."""
    return _to_square(weights[..., None], size, sizes)


def restore_logits(
    logits: Float[Array, "*lead size size k"], height: Size, width: Size, sizes: Int32[Array, "b 2"] | None = None
) -> Float[Array, "*lead height width k"]:
    """Logits in the geometry that the image had before `prepare_image`.

    With `sizes`, as for `prepare_image`, each image's logits lie in the upper left, and what is beyond them means
    nothing.
    """
    if sizes is not None:
        side = sizes.max(-1)
        rows, columns = (
            jax.vmap(_restoring_matrix, (None, None, 0, 0))(length, logits.shape[-2], side, (side - sizes[:, n]) // 2)
            for n, length in enumerate((height, width))
        )
        return _resample(rows, logits, columns)
    side = jax.core.max_dim(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return _resize(logits, side)[..., top : top + height, left : left + width, :]


def _to_square(
    x: Float[Array, "*lead h w c"], size: int, sizes: Int32[Array, "b 2"] | None
) -> Float[Array, "*lead size size c"]:
    """Padded evenly to a square, then resized."""
    if sizes is None:
        return _resize(_pad_to_square(x), size)
    side, longest = sizes.max(-1), max(x.shape[-3:-1])
    rows, columns = (
        jax.vmap(_resizing_matrix, (None, None, 0, 0))(size, longest, side, (side - sizes[:, n]) // 2)[..., :length]
        for n, length in enumerate(x.shape[-3:-1])
    )
    return _resample(rows, x, columns)


def _resample(
    rows: Float32[Array, "b i h"], x: Float[Array, "b *lead h w c"], columns: Float32[Array, "b j w"]
) -> Float[Array, "b *lead i j c"]:
    return jnp.einsum("bih,b...hwc,bjw->b...ijc", rows, x, columns, precision=jax.lax.Precision.HIGHEST)


def _resizing_matrix(
    size: int, length: int, side: Int32[Array, ""], start: Int32[Array, ""]
) -> Float32[Array, "{size} {length}"]:
    """What `_resize` does along one axis of `side` pixels, at most `length`, of which the first `start` are zeros."""
    centres, width = _centres(jnp.arange(size, dtype=jnp.float32), side / size)
    square = jnp.arange(length, dtype=jnp.float32)
    total = jnp.where(square < side, _triangle(square, centres, width), 0).sum(-1, keepdims=True)
    pixels = square + start
    return jnp.where(pixels < side, _triangle(pixels, centres, width), 0) / total


def _restoring_matrix(
    length: int, size: int, side: Int32[Array, ""], start: Int32[Array, ""]
) -> Float32[Array, "{length} {size}"]:
    """What `_resize` from `size` to `side` pixels does along one axis, from pixel `start` of the result on.

    So many pixels of it, of which those beyond the image mean nothing.
    """
    centres, width = _centres(jnp.arange(length, dtype=jnp.float32) + start, size / side)
    weights = _triangle(jnp.arange(size, dtype=jnp.float32), centres, width)
    return weights / jnp.maximum(weights.sum(-1, keepdims=True), jnp.finfo(jnp.float32).tiny)


def _centres(
    pixels: Float32[Array, " new"], scale: Float32[Array, ""]
) -> tuple[Float32[Array, "new 1"], Float32[Array, ""]]:
    """Where new pixels' centres lie among the old ones, of which each is `scale` wide, and how far each looks."""
    return (pixels[:, None] + 0.5) * scale - 0.5, jnp.maximum(scale, 1.0)


def _triangle(
    pixels: Float32[Array, " old"], centres: Float32[Array, "new 1"], width: Float32[Array, ""]
) -> Float32[Array, "new old"]:
    return jnp.maximum(1 - jnp.abs(pixels - centres) / width, 0)


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

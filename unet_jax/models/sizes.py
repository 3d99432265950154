"""Which image sizes a network takes, and which one it needs for a mask of a given size.

Two numbers decide: `divisor`, the product of a network's strides, and `margin`, the number of pixels by which the
image exceeds the logits at every border: 0 if convolutions are padded, 92 in the network of Ronneberger et al. 2015.
An image of n pixels fits if n - margin divides by the divisor, and gives n - 2 margin logits.
"""

from collections.abc import Sequence

from unet_jax.errors import InputError
from unet_jax.models.layers import each_axis


def check_size(size: Sequence[int], divisor: int | Sequence[int], margin: int = 0) -> None:
    """Checks that an image of `size` fits.

    Args:
        size: pixels an axis.
        divisor: one for all axes, or one for each.
        margin: as above.

    Raises:
        InputError: it does not; the error names sizes that do.
    """
    divisors = each_axis(divisor, len(size))
    above = input_size_for([max(n - 2 * margin, 1) for n in size], divisors, margin)
    if above == tuple(size):
        return
    below = tuple(
        fit if fit == n or fit - by <= 2 * margin else fit - by
        for n, fit, by in zip(size, above, divisors, strict=True)
    )
    by = divisors[0] if len(set(divisors)) == 1 else divisors
    less = f" less {margin}" if margin else ""
    use = f"{below} or {above}" if below != above else f"{above}"
    raise InputError(f"the image is {tuple(size)}; every axis{less} must divide by {by}: use {use}.")


def input_size_for(output: Sequence[int], divisor: int | Sequence[int], margin: int = 0) -> tuple[int, ...]:
    """The size of the smallest image whose logits cover `output` pixels an axis.

    For the overlap-tile of Ronneberger et al. 2015 (figure 2): mirror `margin` pixels at each border, and what is
    then missing at the far ones; the first `output` logits are those of the image's pixels.

    Args:
        output: pixels an axis.
        divisor: one for all axes, or one for each.
        margin: as above.
    """
    divisors = each_axis(divisor, len(output))
    return tuple(-(-(n + margin) // by) * by + margin for n, by in zip(output, divisors, strict=True))

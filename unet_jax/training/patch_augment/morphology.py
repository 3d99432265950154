"""Dilation, erosion, closing and opening of a volume of voxels that are in or out, by a ball of any radius.

Source: batchgeneratorsv2 0.3.6, transforms/nnunet/random_binary_operator.py, and scikit-image 0.26, `morphology.ball`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32

# In the order of their numbers.
OPERATORS = ("dilation", "erosion", "closing", "opening")
# A voxel on the ball's surface belongs to it, whichever way its distance was rounded.
ROUNDING = 1 + 1e-6

Volume = Bool[Array, "d h w"]


def operate(volume: Volume, operator: Int32[Array, ""], radius: Float32[Array, ""], largest: float) -> Volume:
    """Applies one of the four operators.

    Args:
        volume: what is in.
        operator: a place in OPERATORS.
        radius: of the ball, in voxels, at least ½.
        largest: the greatest radius that may come.
    """
    erodes_first = (operator == 1) | (operator == 3)

    def once(number: Int32[Array, ""], volume: Volume) -> Volume:
        # Erosion is the dilation of what is out.
        erodes = erodes_first ^ (number == 1)
        return dilate(volume ^ erodes, radius, largest) ^ erodes

    return jax.lax.fori_loop(0, jnp.where(operator >= 2, 2, 1), once, volume)


def dilate(volume: Volume, radius: Float32[Array, ""], largest: float) -> Volume:
    """Adds every voxel that a ball about a voxel of the volume reaches; nothing comes from beyond the edges.

    The ball is scikit-image's: ⌊2 r + 1⌋ points an axis, evenly from -r to r, of which those within r of the middle
    count. So its squared distances are sums over the axes, and their minimum is found axis by axis (Felzenszwalb and
    Huttenlocher 2012), in 3 n steps rather than n³.
    """
    costs = _costs(radius, largest)
    reach = len(costs) // 2
    distance = jnp.where(volume, 0.0, jnp.inf)
    for axis, size in enumerate(volume.shape):
        edges = [(reach, reach) if a == axis else (0, 0) for a in range(volume.ndim)]
        padded = jnp.pad(distance, edges, constant_values=jnp.inf)
        for shift, cost in enumerate(costs):
            moved = jax.lax.slice_in_dim(padded, shift, shift + size, axis=axis) + cost
            distance = moved if shift == 0 else jnp.minimum(distance, moved)
    return distance <= radius**2 * ROUNDING


def _costs(radius: Float32[Array, ""], largest: float) -> Float32[Array, " n"]:
    """Squared distance along an axis of each offset from -n // 2 to n // 2; infinite where the ball has no point."""
    reach = int(2 * largest + 1) // 2
    points = jnp.floor(2 * radius + 1)
    # An even number of points has one more after the middle.
    point = jnp.arange(-reach, reach + 1) + (points - 1) // 2
    place = -radius + point * (2 * radius / (points - 1))
    return jnp.where((point >= 0) & (point < points), place**2, jnp.inf)

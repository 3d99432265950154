"""Connected components of a volume of voxels that are in or out, and the removal of one of them.

Source: batchgeneratorsv2 0.3.6, transforms/nnunet/remove_connected_components.py.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, Key

Volume = Bool[Array, "d h w"]


def components(volume: Volume) -> Int32[Array, "d h w"]:
    """Numbers the components, voxels that touch by a corner included: one more than their last voxel's index; 0 is out.

    Each voxel takes the greatest number around it, and then the number that the voxel of that number has by now,
    until nothing changes. So what is far apart is joined in few rounds.
    """

    def spread(state):
        numbers, _ = state
        greatest = jnp.where(volume, _greatest_around(numbers), 0)
        known = jnp.concatenate([jnp.zeros(1, jnp.int32), greatest.ravel()])
        joined = known.at[greatest].get(mode="promise_in_bounds")
        return joined, (joined != numbers).any()

    own = jnp.arange(1, volume.size + 1, dtype=jnp.int32).reshape(volume.shape)
    numbers, _ = jax.lax.while_loop(lambda state: state[1], spread, (jnp.where(volume, own, 0), volume.any()))
    return numbers


def _greatest_around(numbers: Int32[Array, "d h w"]) -> Int32[Array, "d h w"]:
    for axis, size in enumerate(numbers.shape):
        edges = [(1, 1) if a == axis else (0, 0) for a in range(numbers.ndim)]
        padded = jnp.pad(numbers, edges)
        low, middle, high = (jax.lax.slice_in_dim(padded, shift, shift + size, axis=axis) for shift in range(3))
        numbers = jnp.maximum(jnp.maximum(low, middle), high)
    return numbers


def remove_one(key: Key[Array, ""], volume: Volume, share: float) -> Volume:
    """Removes one component of those that cover less than `share` of the voxels, each as likely, if there are any.

    Args:
        key: draws the component.
        volume: what is in.
        share: in (0, 1].
    """
    numbers = components(volume)
    flat = numbers.ravel()
    sizes = jnp.zeros(volume.size + 1, jnp.int32).at[flat].add(1)
    may_go = (jnp.arange(volume.size + 1) > 0) & (sizes > 0) & (sizes < share * volume.size)
    chosen = jnp.argmax(jnp.where(may_go, jax.random.uniform(key, may_go.shape), -1.0))
    return volume & ~(may_go[chosen] & (numbers == chosen))

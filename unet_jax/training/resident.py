"""The training side kept on the devices: batches are gathered there, and nothing but their positions is sent."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int32

from unet_jax.data.slices import Slices
from unet_jax.errors import InputError
from unet_jax.runtime.device_memory import free_bytes
from unet_jax.runtime.mesh import by_batch, by_step_and_batch, replicated
from unet_jax.training.step import ON_DEVICE

CHOICES = ("auto", "must", "never")
# The largest share of a device's free memory that "auto" takes.
SHARE = 0.2
# Slices that are sent at a time.
PART = 256


def check(choice: str, *, has_patches: bool) -> None:
    """Raises InputError unless config.data.resident can be kept."""
    if choice not in CHOICES:
        raise InputError(f"config.data.resident is {choice!r}; it must be one of {', '.join(CHOICES)}.")
    if choice == "must" and has_patches:
        raise InputError("config.data.resident is 'must', and patches are cut on the host: make it 'auto' or 'never'.")
    if choice == "must" and jax.process_count() > 1:
        raise InputError(
            "config.data.resident is 'must', and of several processes each reads its own part of a batch: make it "
            "'auto' or 'never'."
        )


def is_wanted(choice: str, slices: Slices | None) -> bool:
    """Whether the training side is to be kept on the devices.

    Args:
        choice: config.data.resident.
        slices: the training side; None for patches.
    """
    if choice == "never" or slices is None or jax.process_count() > 1:
        return False
    if choice == "must":
        return True
    free = free_bytes()
    return free is not None and bytes_of(slices) <= SHARE * free


def bytes_of(slices: Slices) -> int:
    """What all slices take on a device."""
    return sum(array.nbytes for array in _sent(slices, [0]).values()) * len(slices)


def upload(slices: Slices, mesh: Mesh) -> dict[str, jax.Array]:
    """All slices as one batch, whole on every device of the mesh."""
    rows = min(PART, len(slices))
    everywhere = replicated(mesh)
    store = {
        key: jnp.zeros((len(slices), *array.shape[1:]), array.dtype, device=everywhere)
        for key, array in _sent(slices, [0]).items()
    }
    for start in range(0, len(slices), rows):
        start = min(start, len(slices) - rows)  # the last part is as long as the others, for one program
        part = jax.device_put(_sent(slices, range(start, start + rows)), everywhere)
        store = _put(store, part, start)
    return store


def gathering(store: dict[str, jax.Array], mesh: Mesh) -> Callable[[Sequence[dict]], dict[str, jax.Array]]:
    """What makes the batches of one or several steps, as `feed.sent` does: from their positions in `store`.

    Gathering is a program of its own, so that the step is the same to the bit, however its batch has come.
    """

    def gather(store: dict[str, Array], positions: Int32[Array, "*steps b"]) -> dict[str, Array]:
        return {key: array.at[positions].get(mode="promise_in_bounds") for key, array in store.items()}

    for_one = jax.jit(gather, out_shardings=by_batch(mesh))
    for_several = jax.jit(gather, out_shardings=by_step_and_batch(mesh))

    def gathered(batches: Sequence[dict]) -> dict[str, jax.Array]:
        positions = [batch["position"] for batch in batches]
        if len(positions) == 1:
            return for_one(store, jax.device_put(positions[0], replicated(mesh)))
        return for_several(store, jax.device_put(np.stack(positions), replicated(mesh)))

    return gathered


@functools.partial(jax.jit, donate_argnums=0)
def _put(store: dict[str, Array], part: dict[str, Array], start: Int32[Array, ""]) -> dict[str, Array]:
    return {key: jax.lax.dynamic_update_slice_in_dim(store[key], part[key], start, 0) for key in store}


def _sent(slices: Slices, positions: Sequence[int]) -> dict[str, np.ndarray]:
    """What a step sees of these slices."""
    return {key: array for key, array in slices.gather(positions).items() if key in ON_DEVICE}

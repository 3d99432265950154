"""The mesh of devices, how arrays lie on it, and which process prints and writes."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from unet_jax.errors import InputError

Tree = TypeVar("Tree")


def data_mesh() -> Mesh:
    """All devices along one axis, "data". One device is a mesh of one."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def local_mesh() -> Mesh:
    """The devices of this process along one axis, "data": for work that processes share out, each on its own."""
    return jax.make_mesh(
        (jax.local_device_count(),), ("data",), axis_types=(AxisType.Auto,), devices=jax.local_devices()
    )


def to_local(tree: Tree, mesh: Mesh) -> Tree:
    """Arrays that every device of all processes holds whole, as arrays of this process's `mesh`; nothing is copied."""
    if jax.process_count() == 1:
        return tree

    def convert(array: jax.Array) -> jax.Array:
        pieces = [shard.data for shard in array.addressable_shards]
        return jax.make_array_from_single_device_arrays(array.shape, replicated(mesh), pieces)

    return jax.tree.map(convert, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh) -> NamedSharding:
    """Every device holds an equal share of the array's first axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises InputError unless the devices share `batch_size` evenly."""
    if batch_size % mesh.size:
        raise InputError(
            f"config.train.batch_size is {batch_size} and there are {mesh.size} devices: it must be a multiple "
            f"of {mesh.size}, such as {-(-batch_size // mesh.size) * mesh.size}."
        )


def global_batch(local: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The batch spread over all devices.

    Args:
        local: this process's part of it, [b, ...] each.
        mesh: whose devices share the batch evenly.
    """
    if jax.process_count() == 1:
        # The same as below, in half the time.
        return jax.device_put(local, by_batch(mesh))
    return {key: jax.make_array_from_process_local_data(by_batch(mesh), x) for key, x in local.items()}


def any_process(mesh: Mesh) -> Callable[[bool], jax.Array]:
    """Whether any process says yes, as a sum over devices that is waited for when its value is looked at.

    Every process calls it as often as all others.
    """
    found = jax.jit(jnp.any, out_shardings=replicated(mesh))

    def ask(yes: bool) -> jax.Array:
        here = np.full(jax.local_device_count(), yes)
        return found(jax.make_array_from_process_local_data(by_batch(mesh), here))

    return ask


def is_primary() -> bool:
    """Whether this is the process that prints and writes."""
    return jax.process_index() == 0

"""The mesh of devices, how arrays lie on it, and which process prints and writes.

One axis, "data", over which devices share a batch; or two, "data" and "space", where each sample is also cut into
slabs along its first spatial axis, a slab a device.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from unet_jax.errors import InputError

Tree = TypeVar("Tree")


def data_mesh(spatial: Sequence[Any] | None = None) -> Mesh:
    """All devices along one axis, "data", or along "data" and "space". One device is a mesh of one.

    Args:
        spatial: config.train.spatial: how many devices share a sample; None, or one device, for no axis "space".

    Raises:
        InputError: `spatial` is not one number, or the devices do not make whole groups of so many.
    """
    slabs = slabs_of(spatial)
    if slabs == 1:
        return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    if jax.local_device_count() % slabs:
        where = "a process has" if jax.process_count() > 1 else "there are"
        raise InputError(
            f"config.train.spatial is ({slabs},) and {where} {jax.local_device_count()} devices: they must be a "
            f"multiple of {slabs}; with fewer or None, fewer devices share a volume."
        )
    # By process: planes are exchanged between neighbours many times a step, and never from one host to another.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices).reshape(-1, slabs), ("data", "space"), axis_types=(AxisType.Auto,) * 2)


def prediction_mesh(spatial: Sequence[Any] | None) -> Mesh:
    """The devices of this process, as a run predicts with them: as many share a sample as in training, or fewer.

    Processes share out cases, and each works on its own. On a CPU no devices share a sample: they are of one memory,
    and the fast convolutions of volumes are for whole ones.
    """
    devices = np.array(jax.local_devices())
    slabs = 1 if jax.default_backend() == "cpu" else math.gcd(slabs_of(spatial), len(devices))
    if slabs == 1:
        return Mesh(devices, ("data",), axis_types=(AxisType.Auto,))
    return Mesh(devices.reshape(-1, slabs), ("data", "space"), axis_types=(AxisType.Auto,) * 2)


def slabs_of(spatial: Sequence[Any] | None) -> int:
    """Into how many slabs config.train.spatial cuts a sample; 1 for None, of which the command line makes (None,).

    Raises:
        InputError: it is not one number of at least 1.
    """
    numbers = tuple(spatial or ())
    if numbers in ((), (None,)):
        return 1
    if len(numbers) != 1 or not isinstance(numbers[0], int) or numbers[0] < 1:
        raise InputError(
            f"config.train.spatial is {numbers}; it must be one number, such as (4,), into how many slabs of the first "
            "axis a volume is cut; or None."
        )
    return numbers[0]


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
    """Every device, or group of devices that share samples, holds an equal share of the array's first axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def by_step_and_batch(mesh: Mesh) -> NamedSharding:
    """`by_batch` of each of several steps, which are the array's first axis."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))


def by_slab(mesh: Mesh) -> NamedSharding | None:
    """Every device holds a slab of its share of the batch, of [b, *spatial, c]; None if the mesh has no "space"."""
    return NamedSharding(mesh, PartitionSpec("data", "space")) if "space" in mesh.shape else None


def check_batch_size(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
    """Raises InputError unless the mesh shares `batch_size`, or each of `accumulate` parts of it, evenly."""
    shares = mesh.shape["data"] * accumulate
    if batch_size % shares == 0:
        return
    groups = f" in groups of {mesh.shape['space']} that share volumes" if "space" in mesh.shape else ""
    parts = f", config.train.accumulate {accumulate}" if accumulate > 1 else ""
    raise InputError(
        f"config.train.batch_size is {batch_size}{parts} and there are {mesh.size} devices{groups}: it must be a "
        f"multiple of {shares}, such as {-(-batch_size // shares) * shares}."
    )


def global_batch(local: dict[str, np.ndarray], mesh: Mesh, *, several: bool = False) -> dict[str, jax.Array]:
    """The batch spread over all devices; those that share samples each get them whole.

    Args:
        local: this process's part of it, [b, ...] each; of several steps [steps, b, ...].
        mesh: whose devices share the batch evenly.
        several: whether it is of several steps.
    """
    sharding = by_step_and_batch(mesh) if several else by_batch(mesh)
    if jax.process_count() == 1:
        # The same as below, in half the time.
        return jax.device_put(local, sharding)
    return {key: jax.make_array_from_process_local_data(sharding, x) for key, x in local.items()}


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

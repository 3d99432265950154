"""The mesh of devices, how arrays lie on it, and which process prints and writes.

One axis, "data", over which devices share a batch; or two, "data" and "space", where each sample is also cut into
slabs along its first spatial axis, a slab a device.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
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
    """The mesh that a run predicts with, wherever that is: as many devices share a sample as do in training, or fewer.

    On a CPU none do: its devices are of one memory, and the fast convolutions of volumes are for whole ones.
    """
    slabs = math.gcd(slabs_of(spatial), jax.local_device_count())
    return data_mesh() if jax.default_backend() == "cpu" else data_mesh((slabs,))


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


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh) -> NamedSharding:
    """Every device, or group of devices that share samples, holds an equal share of the array's first axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


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


def global_batch(local: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The batch spread over all devices; those that share samples each get them whole.

    Args:
        local: this process's part of it, [b, ...] each.
        mesh: whose devices share the batch evenly.
    """
    if jax.process_count() == 1:
        # The same as below, in half the time.
        return jax.device_put(local, by_batch(mesh))
    return {key: jax.make_array_from_process_local_data(by_batch(mesh), x) for key, x in local.items()}


def is_primary() -> bool:
    """Whether this is the process that prints and writes."""
    return jax.process_index() == 0

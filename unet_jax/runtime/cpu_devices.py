"""How many devices jax makes of a CPU: one a core, which are faster together than one device of all cores."""

import os
from collections.abc import Sequence
from typing import Any

import jax

from unet_jax.runtime.mesh import slabs_of

# XLA divides a single image among cores well enough, and every device holds a copy of parameters and optimiser.
MOST = 8
# Devices wait for each other in each step, which may take minutes; after 40 seconds XLA would end the process.
PATIENCE = " ".join(
    f"--xla_cpu_collective_call_{name}_timeout_seconds={seconds}"
    for name, seconds in (("warn_stuck", 3600), ("terminate", 86400))
)


def use_cores(batch_size: int, spatial: Sequence[Any] | None = None) -> None:
    """Gives jax as many CPU devices as this process has cores, or as share `batch_size` evenly.

    Where `spatial`, config.train.spatial, has several devices share each sample, there are as many groups of them as
    cores suffice for, and at least one.

    It has an effect only before jax has started, and where no accelerator is found. A number of devices that the
    environment names (JAX_NUM_CPU_DEVICES, or XLA_FLAGS with xla_force_host_platform_device_count) stands, and so does
    that of a process of jax.distributed.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    named = "JAX_NUM_CPU_DEVICES" in os.environ or "xla_force_host_platform_device_count" in flags
    if named or jax.distributed.is_initialized():
        return
    slabs = slabs_of(spatial)
    jax.config.update("jax_num_cpu_devices", slabs * device_count(batch_size, cores() // slabs))
    os.environ["XLA_FLAGS"] = f"{PATIENCE} {flags}".strip()


def device_count(batch_size: int, cores: int) -> int:
    """The most devices, up to `cores` and MOST, that share `batch_size` evenly; 1 where it is 0."""
    return max([n for n in range(1, min(cores, MOST) + 1) if batch_size > 0 and batch_size % n == 0], default=1)


def cores() -> int:
    """How many this process may use: in a container or under taskset fewer than there are."""
    # macOS does not say.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

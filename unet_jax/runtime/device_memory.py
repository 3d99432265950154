"""How much memory the accelerators have, and how much was held."""

import jax

from unet_jax.errors import InputError


def device_memory_gb() -> float:
    """What jax may take of the memory of one accelerator here, in GiB: of several, the one that may take least.

    On a GPU that is three quarters of it, unless the environment's XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.

    Raises:
        InputError: there is no accelerator, or it does not say.
    """
    devices = jax.local_devices()
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
    if devices[0].platform == "cpu" or not all(limits):
        raise InputError(
            f"config.plan.device=True: {devices[0].device_kind} does not say how much memory there is: give "
            "config.plan.memory_gb instead, or plan where the accelerator is."
        )
    return min(limits) / 2**30


def device_peak_gb() -> float | None:
    """The most memory of a device that was held so far, GB; None where it keeps no count."""
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return peak / 1e9 if peak else None


def free_bytes() -> int | None:
    """What jax may still take of the memory of one device here: of several, the one that has least; None if unknown.

    A CPU does not say.
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if not all("bytes_limit" in one and "bytes_in_use" in one for one in stats):
        return None
    return min(one["bytes_limit"] - one["bytes_in_use"] for one in stats)

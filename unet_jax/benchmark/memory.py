"""How much memory a program takes, GB: on the device by count and by XLA's plan, and on the host."""

import resource
import sys

import jax

GIGA = 1e9


def peaks(compiled: jax.stages.Compiled) -> dict[str, float | None]:
    """The peaks so far of the device (None where it keeps no count) and of this process, and XLA's plan for a step."""
    device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB on Linux
    return {
        "device_peak": device / GIGA if device else None,
        "step_by_xla": planned(compiled),
        "host_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIGA,
    }


def planned(compiled: jax.stages.Compiled) -> float | None:
    """The most memory of a device that a program holds by XLA's plan, its arguments included; None if unknown."""
    plan = compiled.memory_analysis()
    if not plan:
        return None
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return (held + plan.temp_size_in_bytes) / GIGA

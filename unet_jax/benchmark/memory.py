"""How much memory a program takes, GB: on the device by count and by XLA's plan, and on the host."""

import jax

from unet_jax.runtime.device_memory import device_peak_gb
from unet_jax.runtime.host_memory import host_peak_gb

GIGA = 1e9


def peaks(compiled: jax.stages.Compiled) -> dict[str, float | None]:
    """The peaks so far of the device (None where it keeps no count) and of this process, and XLA's plan for a step."""
    return {"device_peak": device_peak_gb(), "step_by_xla": planned(compiled), "host_peak": host_peak_gb()}


def planned(compiled: jax.stages.Compiled) -> float | None:
    """The most memory of a device that a program holds by XLA's plan, its arguments included; None if unknown."""
    plan = compiled.memory_analysis()
    if not plan:
        return None
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return (held + plan.temp_size_in_bytes) / GIGA

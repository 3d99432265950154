"""When, where and with what something was measured."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy")


def describe(packages: Sequence[str] = PACKAGES) -> dict:
    """The date, the machine, its devices and the versions of `packages`, for JSON."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def _processor() -> str:
    """The processor's name: in full only where Linux's /proc/cpuinfo has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())

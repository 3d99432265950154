"""When, where and with what something was measured."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import jax

CPUINFO = Path("/proc/cpuinfo")
# By the flags of /proc/cpuinfo, the widest first.
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}
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


def vectors() -> str:
    """The widest vectors of this processor, on which its matrix products depend: AVX-512, AVX2, or "" if unknown."""
    known = set(_cpuinfo("flags").split())
    return next((name for flag, name in VECTORS.items() if flag in known), "")


def _processor() -> str:
    """The processor's name: in full only where Linux tells it."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    return f"{name} with {vectors()}" if vectors() else name


def _cpuinfo(key: str) -> str:
    """What Linux says of the first processor; "" where there is no such file or line."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0] == key), "")

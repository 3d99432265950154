import ctypes
import gc
import json
import os
import platform
import resource
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from unet_jax.runtime import host_memory

PROJECT = Path(__file__).parents[2]
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# Twice 256 MB, without numpy's own request for huge pages.
CHILD = """
import json, os, resource, sys
from unet_jax.runtime import host_memory
host_memory.tune_malloc()
os.environ["NUMPY_MADVISE_HUGEPAGE"] = "0"
import numpy as np
faults = []
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**28, np.uint8)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(json.dumps([faults, os.getpid(), sys.argv, os.environ["GLIBC_TUNABLES"]]))
"""
GIVING_BACK = """
import json, resource
from pathlib import Path
from unet_jax.runtime import host_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
pieces = [bytearray(b"x" * 2**16) for _ in range(9200)]
seen = [resident()]
last = pieces.pop()
del pieces
seen.append(resident())
host_memory.give_back()
seen.append(resident())
print(json.dumps(seen))
"""
of_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc that is told")


def _run(tunables):
    environment = {key: value for key, value in os.environ.items() if key != host_memory.TUNABLES}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, "--flag", "a b"], env=environment | tunables, cwd=PROJECT, stdout=subprocess.PIPE
    )
    faults, process, arguments, said = json.loads(child.communicate()[0])
    assert child.returncode == 0
    assert (process, arguments) == (child.pid, ["-c", "--flag", "a b"])
    return faults, said


@of_glibc
@pytest.mark.skipif(not OFFERED.exists() or "[never]" in OFFERED.read_text(), reason="the system has no huge pages")
def test_buffers_are_had_in_huge_pages():
    small = 2**28 // resource.getpagesize()
    faults, said = _run({})
    assert said == "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2"
    assert max(faults) < 0.05 * small
    if "[always]" not in OFFERED.read_text():
        faults, said = _run({host_memory.TUNABLES: "glibc.malloc.hugetlb=0"})
        assert said == "glibc.malloc.hugetlb=0:glibc.malloc.arena_max=2"
        assert min(faults) > 0.9 * small


@of_glibc
def test_what_else_the_environment_says_stands():
    _, said = _run({host_memory.TUNABLES: "glibc.malloc.tcache_count=7"})
    assert said == "glibc.malloc.tcache_count=7:glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2"


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.delenv(host_memory.TUNABLES, raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2.5"))
    monkeypatch.setattr(os, "execv", None)
    monkeypatch.setattr(ctypes, "CDLL", None)
    host_memory.tune_malloc()
    with host_memory.thawing():
        host_memory.give_back()
    assert host_memory.TUNABLES not in os.environ


class Figure:
    """It refers to itself, as matplotlib's do."""

    def __init__(self):
        self.canvas = [self]


def test_circles_are_freed_whatever_age_they_reached():
    gc.disable()
    try:
        old, new = Figure(), Figure()
        # As drawing a figure does in a program that makes many objects.
        gc.collect()
        figures = [weakref.ref(old), weakref.ref(new)]
        del old, new
        figures.append(weakref.ref(Figure()))
        with host_memory.thawing():
            host_memory.give_back()
            assert [figure() for figure in figures] == [None, None, None]
    finally:
        gc.enable()


def test_what_is_alive_is_frozen_until_the_end():
    figure = Figure()
    seen = weakref.ref(figure)
    with host_memory.thawing():
        host_memory.give_back()
        assert gc.get_freeze_count() > 0
        del figure
        host_memory.give_back()
        assert seen() is not None
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert seen() is None


@of_glibc
def test_freed_memory_is_given_back():
    """600 MB in pieces of 64 KiB, which malloc keeps when they are freed, as the last of them is still in use."""
    child = subprocess.run([sys.executable, "-c", GIVING_BACK], cwd=PROJECT, capture_output=True, text=True, check=True)
    used, freed, given_back = json.loads(child.stdout)
    assert used > 600e6
    assert freed > 0.9 * used
    assert given_back < used - 550e6

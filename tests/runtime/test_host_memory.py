import ctypes
import gc
import json
import platform
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from unet_jax.runtime import host_memory

PROJECT = Path(__file__).parents[2]
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
of_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc that is asked")


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2.5"))
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", asked.append)
    with host_memory.thawing():
        host_memory.give_back()
    assert asked == []


class Figure:
    """It refers to itself, as matplotlib's do."""

    def __init__(self):
        self.canvas = [self]


def test_cycles_are_freed_whatever_age_they_reached():
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

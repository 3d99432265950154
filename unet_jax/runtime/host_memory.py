"""Host memory: a malloc that suits XLA, which takes and frees buffers in every step; and what is given back."""

import contextlib
import ctypes
import gc
import os
import platform
import sys
from collections.abc import Iterator

# What glibc (2.35 or later) reads before a program starts; programs that are started from it read it too.
TUNABLES = "GLIBC_TUNABLES"
# Huge pages for what is taken; and few heaps, as each keeps free memory of its own that no other can use.
SETTINGS = {"glibc.malloc.hugetlb": 1, "glibc.malloc.arena_max": 2}


def tune_malloc() -> None:
    """Starts this process anew, once, with the `SETTINGS` of malloc; to be called before anything else.

    XLA allocates the buffers of each step and frees them, and malloc gives the larger ones back to the system at once.
    In pages of 4 KiB, getting them again is a sixth of a training step's time; in pages of 2 MiB, a twelfth. And its
    threads take their buffers now from one heap, now from another: of eight heaps a core, what lies free in them grows
    from epoch to epoch. The process keeps its number, its arguments and its files. With another C library nothing
    changes; what the environment says about a setting stands.
    """
    said = os.environ.get(TUNABLES, "")
    missing = [f"{name}={value}" for name, value in SETTINGS.items() if name not in said]
    if not _glibc() or not missing:
        return
    os.environ[TUNABLES] = ":".join(filter(None, [said, *missing]))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def give_back() -> None:
    """Frees what only references in a circle keep, and returns to the system what malloc keeps of freed memory.

    To be called when much of it is not needed soon: compiling a step leaves hundreds of megabytes, and every figure of
    matplotlib's is a circle that holds its pixels. With another C library than glibc, malloc keeps what it has. What is
    alive is frozen: it is not looked through again before `thawing` ends.
    """
    gc.collect()
    # To look through what tracing has made would take .2 s each time, and takes .02 s without it.
    gc.freeze()
    if _glibc():
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def thawing() -> Iterator[None]:
    """At its end, what `give_back` has frozen can be collected again: whatever calls that belongs inside."""
    try:
        yield
    finally:
        gc.unfreeze()


def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"

"""Host memory: had in huge pages, as XLA takes and frees buffers in every step on a CPU, and given back when free."""

import contextlib
import ctypes
import gc
import os
import platform
import sys
from collections.abc import Iterator

# What glibc (2.35 or later) reads before a program starts; programs that are started from it read it too.
TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb"


def use_huge_pages() -> None:
    """Starts this process anew, once, with a malloc that asks for huge pages; to be called before anything else.

    XLA allocates the buffers of each step and frees them, and malloc gives the larger ones back to the system at once.
    In pages of 4 KiB, getting them again is a sixth of a training step's time; in pages of 2 MiB, a twelfth. The
    process keeps its number, its arguments and its files. Where the system has no huge pages, or another C library,
    nothing changes; what the environment says about them stands.
    """
    said = os.environ.get(TUNABLES, "")
    if not _glibc() or HUGE_PAGES in said:
        return
    os.environ[TUNABLES] = ":".join(filter(None, [said, f"{HUGE_PAGES}=1"]))
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

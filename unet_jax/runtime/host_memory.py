"""Host memory: what is freed is returned to the system, and what lives is not searched for garbage."""

import contextlib
import ctypes
import gc
import platform
import resource
import sys
from collections.abc import Iterator


def give_back() -> None:
    """Frees what only reference cycles keep, and returns to the system what malloc keeps of freed memory.

    Call it when much of that is not needed soon: compiling a step leaves hundreds of megabytes, and every figure of
    matplotlib's is a cycle that holds its pixels. With another C library than glibc, malloc keeps what it has. What is
    alive is frozen: it is not searched again before `thawing` ends.
    """
    gc.collect()
    # Searching what tracing has made takes .2 s each time, and .02 s without it.
    gc.freeze()
    if is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def thawing() -> Iterator[None]:
    """At its end, what `give_back` has frozen can be collected again: every call of that belongs inside."""
    try:
        yield
    finally:
        gc.unfreeze()


def host_peak_gb() -> float:
    """The most memory that this process has held so far, GB."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def is_glibc() -> bool:
    """Whether the C library is glibc, whose malloc can be told what to do."""
    return platform.libc_ver()[0] == "glibc"

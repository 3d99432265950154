"""Host memory that the process keeps for its next step, instead of giving it back and taking it anew."""

import ctypes
import platform

# The names that glibc's malloc.h has for mallopt's parameters.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
# The largest that mallopt takes: nothing is given back.
NEVER = 2**31 - 1


def keep() -> bool:
    """Makes malloc keep what is freed, for all threads together, from now on; returns whether it could.

    On a CPU each step of XLA's allocates its buffers and frees them. glibc gets the larger ones from the system and
    gives them back at once, so that every page of every step is a fault, and zeros to be written: a sixth of the time
    of a training step. The process then holds as much as its largest step needs, for as long as it lives. Other C
    libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, NEVER), mallopt(M_ARENA_MAX, 1)])

"""What a process of the program is set to before it does anything else: UTF-8, malloc for XLA, few garbage collections.

The last two only make it faster: the environment variable UNET_JAX_PLAIN_START=1 leaves them out.
"""

import gc
import os
import sys

from unet_jax.runtime.host_memory import is_glibc

PLAIN = "UNET_JAX_PLAIN_START"
UTF8 = "PYTHONUTF8"
# glibc (2.35 or later) reads it before a program starts, and so does every program that is started from this one.
TUNABLES = "GLIBC_TUNABLES"
# Huge pages for what is allocated; few heaps, as each keeps free memory that no other can use.
MALLOC = {"glibc.malloc.hugetlb": 1, "glibc.malloc.arena_max": 2}
# New objects from which Python looks for garbage; its own default is 700.
COLLECT_EVERY = 100_000


def re_execute() -> None:
    """Re-executes this process, once, where Python or malloc must be set before they start. Call it before all else.

    The process keeps its number, its arguments and its open files. What the environment says about a setting of malloc
    stands, and with another C library than glibc nothing is set.

    - UTF-8: where a locale such as C makes paths ASCII, OpenCV crashes on a path with an umlaut, and TensorStore writes
      elsewhere. Python's UTF-8 mode fixes both.
    - malloc: XLA allocates the buffers of each step and frees them, and glibc returns large ones to the system at once.
      Getting them again in pages of 4 KiB takes a sixth of a training step, in pages of 2 MiB a twelfth (.94 and .83 s
      a step of width 16, 96² and batch 16 on one core). XLA's threads also allocate from one heap now and from another
      later; with glibc's eight heaps a core, what lies free in them grew by 1.9 MB an epoch, with two by .3.
    """
    changes = _utf8() if PLAIN in os.environ else _utf8() | _malloc()
    if changes:
        os.environ.update(changes)
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def collect_rarely() -> None:
    """Makes Python look for garbage after 100,000 new objects.

    Importing jax and tracing a network make a million objects that stay. Looking for garbage at every 700th of them
    takes half a second of the start.
    """
    if PLAIN not in os.environ:
        gc.set_threshold(COLLECT_EVERY)


def _utf8() -> dict[str, str]:
    # Without a look at the variable, an interpreter that ignores it (-I, -X utf8=0) would re-execute itself forever.
    needed = sys.getfilesystemencoding() != "utf-8" and os.environ.get(UTF8) != "1"
    return {UTF8: "1"} if needed else {}


def _malloc() -> dict[str, str]:
    said = os.environ.get(TUNABLES, "")
    missing = [f"{name}={value}" for name, value in MALLOC.items() if name not in said]
    return {TUNABLES: ":".join(filter(None, [said, *missing]))} if missing and is_glibc() else {}

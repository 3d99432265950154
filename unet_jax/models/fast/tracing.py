"""What a program is traced for, where that decides which layers suit.

XLA divides a convolution of images that are cut into slabs by exchanging the planes at their edges between neighbours
(GSPMD, Xu et al. 2021). The convolutions that are compiled here would make it gather whole images. And a program that
leaves this machine must call no code that was compiled for its CPU. So layers ask here, and are XLA's own.
"""

import contextlib
import contextvars
from collections.abc import Iterator

SLABS = "images that are cut into slabs, each on a device of its own"
ANY_MACHINE = "machines of any kind"

_KINDS: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("kinds", default=frozenset())


@contextlib.contextmanager
def tracing_for(kind: str) -> Iterator[None]:
    """Within it, layers are traced for SLABS or ANY_MACHINE."""
    token = _KINDS.set(_KINDS.get() | {kind})
    try:
        yield
    finally:
        _KINDS.reset(token)


def is_traced_for(kind: str) -> bool:
    """Whether what is traced now is for SLABS or ANY_MACHINE."""
    return kind in _KINDS.get()

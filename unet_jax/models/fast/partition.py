"""Networks whose images are cut into slabs, each on a device of its own: what is traced for them, and how.

XLA divides a convolution by exchanging the planes at the edges of slabs between neighbours (GSPMD, Xu et al. 2021). The
convolutions with gradients of their own would make it gather whole images: they fold the cut axis into others or
loop over it. So layers ask here, and are XLA's own where a slab is traced.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_IS_CUT = contextvars.ContextVar("is_cut", default=False)


@contextlib.contextmanager
def tracing_slabs() -> Iterator[None]:
    """Within it, layers are traced for images that are cut into slabs."""
    token = _IS_CUT.set(True)
    try:
        yield
    finally:
        _IS_CUT.reset(token)


def is_cut() -> bool:
    """Whether what is traced now is for slabs."""
    return _IS_CUT.get()

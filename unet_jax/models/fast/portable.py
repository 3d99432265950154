"""Programs that leave this machine: layers in them are XLA's own, and call no code that was compiled here."""

import contextlib
import contextvars
from collections.abc import Iterator

_IS_PORTABLE = contextvars.ContextVar("is_portable", default=False)


@contextlib.contextmanager
def tracing_for_any_machine() -> Iterator[None]:
    """Within it, layers are traced for machines of any kind."""
    token = _IS_PORTABLE.set(True)
    try:
        yield
    finally:
        _IS_PORTABLE.reset(token)


def is_portable() -> bool:
    """Whether what is traced now is for machines of any kind."""
    return _IS_PORTABLE.get()

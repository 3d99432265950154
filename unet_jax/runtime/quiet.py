"""Keeps orbax's and TensorStore's threads from printing what is raised already."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

# Seconds that threads have, after a failure, to come to their end: in 40 failing saves and 60 failing restores on a
# local disk, the last one came after 2 ms.
SETTLING = 0.1


@contextlib.contextmanager
def without_tracebacks() -> Iterator[None]:
    """Within the block, logging is silent, and so are threads that find their event loop closed by a failure."""
    hook, disabled = sys.unraisablehook, logging.root.manager.disable

    def all_but_closed_loops(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = all_but_closed_loops
    logging.disable(logging.CRITICAL)
    try:
        yield
    except Exception:
        time.sleep(SETTLING)
        raise
    finally:
        sys.unraisablehook = hook
        logging.disable(disabled)

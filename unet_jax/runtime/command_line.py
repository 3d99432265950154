"""What commands answer to what is no bug: one line, and its exit code."""

import sys
from collections.abc import Callable

from unet_jax.errors import RunError
from unet_jax.files import storage_error


def answered(run: Callable[[], str | None]) -> int:
    """Runs, prints the line that comes back, if any, and returns the exit code."""
    try:
        line = run()
    except RunError as error:
        return complain(error)
    except OSError as error:
        fault = storage_error(error)
        if fault is None:
            raise
        return complain(fault)
    if line is not None:
        print(line)
    return 0


def complain(error: RunError) -> int:
    """Prints the error's line, and returns its exit code."""
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code

"""What the commands of this folder answer to what is no bug: one line, and its exit code."""

import sys
from collections.abc import Callable

from unet_jax.errors import RunError
from unet_jax.files import storage_error


def answered(run: Callable[[], str]) -> int:
    """Runs, prints the line that comes back, and returns the exit code."""
    try:
        line = run()
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        fault = storage_error(error)
        if fault is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    print(line)
    return 0

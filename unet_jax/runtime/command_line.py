"""How a command ends: with one line and an exit code, unless it is a bug."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator

from unet_jax.errors import RunError
from unet_jax.files import storage_error
from unet_jax.runtime.cache_warnings import explained_cache_warnings
from unet_jax.runtime.peers import ending_together


def run_and_report(run: Callable[[], str | None]) -> int:
    """Runs, prints the line that comes back, if any, and returns the exit code."""
    with _printing_anything(), explained_cache_warnings():
        try:
            with ending_together(), _explained_storage():
                line = run()
                if line is not None:
                    print(line, flush=True)
        except RunError as error:
            return complain(error)
        return 0


@contextlib.contextmanager
def _explained_storage() -> Iterator[None]:
    """Turns an error of a full, read-only or failing disk into the StorageError that it stands for."""
    try:
        yield
    except OSError as error:
        raise storage_error(error) or error from None


def complain(error: RunError) -> int:
    """Prints the error's line, and returns its exit code."""
    print(f"{error.prefix}{error}", file=sys.stderr)
    return error.exit_code


@contextlib.contextmanager
def _printing_anything() -> Iterator[None]:
    r"""Within the block, stdout shows a character that its encoding lacks as stderr always does: ² in ASCII as \xb2."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        yield
        return
    before = sys.stdout.errors
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        sys.stdout.reconfigure(errors=before)

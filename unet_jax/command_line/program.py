"""The program from its arguments to its exit code."""

from collections.abc import Sequence

from absl import app, logging

from unet_jax.command_line import modes
from unet_jax.command_line.parse import parse_flags
from unet_jax.runtime import start_up
from unet_jax.runtime.command_line import run_and_report


def run() -> None:
    """Parses the process's arguments, runs what they ask for, and ends the process."""
    app.run(main, flags_parser=parse_flags)


def main(arguments: Sequence[str]) -> int:
    """Runs what --mode names and returns the exit code."""
    del arguments
    start_up.collect_rarely()
    logging.set_verbosity(logging.ERROR)
    return run_and_report(modes.run)

"""Ends a run that hangs, and says where it stood."""

import faulthandler
import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from unet_jax.errors import StopRequestedError, StuckError

# Seconds between two looks. One that comes later than LATE was kept from it: the process was stopped, or the machine
# slept or had no time for it, and the run was kept from its work as well.
PERIOD, LATE = 0.5, 1.0


class Watchdog:
    """A thread that ends the process when what it was told to expect does not come in time.

    It writes the stacks of all threads to a file and to stderr, kills the worker processes, and ends with
    StuckError's exit code, even where the main thread hangs outside of Python.

    Time in which the process is suspended (SIGSTOP, a laptop's lid, a scheduler) does not count: the thread adds up the
    time between its own looks, each up to LATE.

    Args:
        stacks: the file for the stacks.
    """

    def __init__(self, stacks: Path):
        self._stacks = stacks
        self._awake = 0.0
        self._expected = ("", math.inf, math.inf)
        self._done = threading.Event()

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()

    def expect(self, what: str, seconds: float) -> None:
        """Allows so many seconds from now on for `what`, instead of what was expected before; 0 for any number."""
        # The last look may be a period ago.
        self._expected = (what, seconds, self._awake + PERIOD + seconds if seconds else math.inf)

    def rest(self) -> None:
        """Expects nothing from now on."""
        self.expect("", 0.0)

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._done.wait(PERIOD):
            now = time.monotonic()
            self._awake += min(now - before, LATE)
            before = now
            what, seconds, deadline = self._expected
            if self._awake > deadline:
                self._dump()
                message = f"no sign of {what} for {seconds:g} s{_workers()}; all stacks are in {self._stacks}."
                end_process(f"{message} Run the same command to resume from the last checkpoint.", StuckError.exit_code)

    def _dump(self) -> None:
        faulthandler.dump_traceback(2)
        try:
            self._stacks.parent.mkdir(parents=True, exist_ok=True)
            with self._stacks.open("w") as file:
                faulthandler.dump_traceback(file)
        except OSError:
            pass  # a full disk may be why nothing moves: stderr has them


_end_with: Callable[[str, int], NoReturn] | None = None


def end_with(others: Callable[[str, int], NoReturn] | None) -> None:
    """Makes `end_process` end other processes too, of which this one is a part: see `peers`."""
    global _end_with
    _end_with = others


def end_process(message: str, exit_code: int) -> NoReturn:
    """Ends this process and its workers from any thread, whatever the others do; `message` goes to stderr."""
    if _end_with is not None:
        _end_with(message, exit_code)
    complain_at_once(message, exit_code)
    exit_now(exit_code)


def complain_at_once(message: str, exit_code: int) -> None:
    """Writes the line to stderr, from any thread, as `command_line` does for the error of this code."""
    say_at_once(message if exit_code == StopRequestedError.exit_code else f"error: {message}")


def exit_now(exit_code: int) -> NoReturn:
    """Ends this process and its workers from any thread."""
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(timeout=1)
    try:
        sys.stdout.flush()
    finally:
        os._exit(exit_code)


def say_at_once(line: str) -> None:
    """Writes a line to stderr from any thread; where a terminal shows a progress bar, on a line of its own."""
    # Not print: the main thread may hang with stderr's lock.
    start = "\n" if os.isatty(2) else ""
    os.write(2, f"{start}{line}\n".encode(errors="backslashreplace"))


def _workers() -> str:
    """The worker processes and what the system says of each, to stand in a sentence."""
    states = [f"process {child.pid} is {_state(child.pid)}" for child in multiprocessing.active_children()]
    return f" (worker {', worker '.join(states)})" if states else ""


def _state(pid: int | None) -> str:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "there"
    return next(line.split("(")[-1].rstrip(")") for line in status.splitlines() if line.startswith("State:"))

"""A command run to its end and watched from outside: seconds, memory at most, files open at most."""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

POLL_SECONDS = 0.02
MEGA = 1e6


@dataclasses.dataclass(frozen=True)
class Watched:
    """What a command took.

    Attributes:
        seconds: by the clock.
        cpu_seconds: of processors, those of its own children included.
        resident: MB at most, all that was mapped to it (VmHWM).
        own: MB at most, without the pages of files, which the system takes back when it needs room.
        open_files: at most.
        output: what it printed.
    """

    seconds: float
    cpu_seconds: float
    resident: float
    own: float
    open_files: int
    output: str


def run(command: Sequence[str]) -> Watched:
    """Runs a command; memory is that of its first process, looked at fifty times a second.

    Raises:
        SystemExit: it ends with another code than 0.
    """
    resident = own = files = 0.0
    began, before = time.perf_counter(), os.times()
    with tempfile.TemporaryFile("w+") as file:
        process = subprocess.Popen(command, stdout=file)
        while process.poll() is None:
            peak, now, opened = _look(process.pid)
            resident, own, files = max(resident, peak), max(own, now), max(files, opened)
            time.sleep(POLL_SECONDS)
        seconds, after = time.perf_counter() - began, os.times()
        file.seek(0)
        output = file.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}.")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Watched(seconds, spent, resident, own, int(files), output)


def main_py(*arguments: str) -> Watched:
    """`run` of the program itself."""
    return run([sys.executable, "main.py", *arguments])


def _look(process: int) -> tuple[float, float, int]:
    """Resident memory so far at most and own memory now, MB, and open files; zeros once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        opened = len(os.listdir(f"/proc/{process}/fd"))
    except OSError:
        return 0.0, 0.0, 0
    fields = dict(line.split(":", 1) for line in lines)
    if "VmHWM" not in fields:
        return 0.0, 0.0, 0
    peak, anonymous, shared = (int(fields[name].split()[0]) * 1024 / MEGA for name in ("VmHWM", "RssAnon", "RssShmem"))
    return peak, anonymous + shared, opened

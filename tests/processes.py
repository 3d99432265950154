"""Programs in processes of their own: on several that meet on the loopback interface, or on several devices."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


class Running:
    """Processes of one run, with their output in files."""

    def __init__(self, processes: Sequence[subprocess.Popen], outputs: Sequence[Path]):
        self.processes, self.outputs = processes, outputs

    def wait_for(self, text: str, number: int = 0, seconds: float = 300) -> None:
        """Until a process has printed it."""
        deadline = time.monotonic() + seconds
        while text not in self.outputs[number].read_text():
            assert self.processes[number].poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def codes(self, seconds: float = 300, of: Sequence[int] | None = None) -> list[int]:
        """The exit codes, once all have ended, or those `of` some."""
        deadline = time.monotonic() + seconds
        chosen = self.processes if of is None else [self.processes[number] for number in of]
        for process in chosen:
            try:
                process.wait(max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"not ended after {seconds} s\n{self.said()}") from None
        return [process.returncode for process in chosen]

    def said(self) -> str:
        """What all of them printed."""
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in self.outputs)

    def errors(self) -> list[list[str]]:
        """The lines of each that begin with "error: "."""
        return [[line for line in path.read_text().splitlines() if line.startswith("error: ")] for path in self.outputs]

    def last_words(self) -> list[list[str]]:
        """The lines of each that say of a process why all have ended."""
        begun = ("error: process ", "process ")
        return [[line for line in path.read_text().splitlines() if line.startswith(begun)] for path in self.outputs]

    def orphans(self, seconds: float) -> list[int]:
        """The numbers of those that have ended, and so many seconds later still have processes that they started."""
        deadline = time.monotonic() + seconds
        ended = {number: process.pid for number, process in enumerate(self.processes) if process.poll() is not None}
        while (left := [number for number, group in ended.items() if _exists(group)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def kill(self) -> None:
        """Leaves none of them, and nothing that they started."""
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.send_signal(signal.SIGKILL)
            process.wait()


def run(commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str]) -> Running:
    """Starts a process a command, each in a session of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    outputs, processes = [folder / f"output{number}.txt" for number in range(len(commands))], []
    for command, output in zip(commands, outputs, strict=True):
        with open(output, "w") as file:
            processes.append(
                subprocess.Popen(
                    command, cwd=PROJECT, env=environment, stdout=file, stderr=file, start_new_session=True
                )
            )
    return Running(processes, outputs)


def _exists(group: int) -> bool:
    """Whether a group of processes has any."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def started(
    arguments: Sequence[str], folder: Path, count: int = 2, each: Mapping[int, Sequence[str]] | None = None
) -> Iterator[Running]:
    """Starts `main.py` in so many processes; whatever becomes of the block, none is left after it.

    Args:
        arguments: of all of them.
        folder: for their output.
        count: how many; one is started without a coordinator.
        each: more arguments, by the process's number.
    """
    port = free_port()
    commands = []
    for number in range(count):
        among = [f"--coordinator=localhost:{port}", f"--processes={count}", f"--process={number}"] if count > 1 else []
        own = (each or {}).get(number, [])
        commands.append([sys.executable, "main.py", *arguments, *own, *among])
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    running = run(commands, folder, environment)
    try:
        yield running
    finally:
        running.kill()


def on_cpu_devices(program: str, count: int, seconds: float = 300) -> Any:
    """Runs a program in a process for which the CPU is so many devices, and returns the JSON of its last line."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])

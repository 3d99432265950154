"""The time from the start of a training process to the end of its first step, as its user waits for it."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from unet_jax.errors import InputError
from unet_jax.run.folder import HISTORY

POLL_SECONDS = 0.01


def cold_and_warm(command: Sequence[str], warm: int = 1) -> list[dict[str, float]]:
    """Starts training without compiled programs on disk, then with those of the first start.

    Args:
        command: a training command; its run's folder and its compilation cache are replaced by temporary ones.
        warm: how often it is started again.

    Returns:
        for each start, the seconds and the processor's seconds (cpu_seconds) to the end of the first step. The data are
        decoded already if they were decoded before.

    Raises:
        InputError: a process ended before its first step; its last line says why.
    """
    with tempfile.TemporaryDirectory(prefix="first_step_") as folder:
        return [_once(command, Path(folder), f"run{number}") for number in range(1 + warm)]


def _once(command: Sequence[str], folder: Path, name: str) -> dict[str, float]:
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    history, errors = folder / name / HISTORY, folder / f"{name}.stderr"
    overrides = [
        "--mode=train",
        f"--workdir={folder / name}",
        f"--config.train.compilation_cache={folder / 'compiled'}",
        "--config.train.log_every_steps=1",
    ]
    with open(errors, "wb") as file:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, *overrides], env=environment, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True
        )
    try:
        while not (history.exists() and history.stat().st_size):
            if process.poll() is not None:
                lines = errors.read_text(errors="replace").splitlines() or ["it printed nothing"]
                raise InputError(f"training ended with code {process.returncode} before its first step: {lines[-1]}")
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - began
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # a clean stop would save a checkpoint first
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime}

"""What a training run holds in memory, epoch by epoch: the program itself, watched from outside.

python -m benchmarks.memory [--epochs=30] -- --config=configs/default.py [--config.data.root=DIR …]

Everything after -- is training's own command line. The run gets the given number of epochs, and its memory is read
twenty times a second: "resident" is all that is mapped to it at the moment, "own" is that without the pages of files,
which decoded cases are: the system takes those back when it needs room.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags
from scipy import stats

from benchmarks import results
from unet_jax.run import history
from unet_jax.runtime import environment

EPOCHS = flags.DEFINE_integer("epochs", 30, "Of the run.")
KEEP = flags.DEFINE_bool("keep", True, "Whether the figures go to benchmarks/results.")
POLL_SECONDS = 0.05
MEGA = 1e6


def watch(command: list[str], workdir: Path) -> dict[str, list[float]]:
    """The largest memory of each epoch of a training command, and last of its evaluation, MB: resident, and own."""
    process = subprocess.Popen([*command, f"--workdir={workdir}"], stdout=subprocess.DEVNULL)
    highest: list[tuple[float, float]] = []
    try:
        while process.poll() is None:
            done = len(history.epochs_of(history.read(workdir)))
            highest += [(0.0, 0.0)] * (done + 1 - len(highest))
            if now := _memory(process.pid):
                highest[-1] = tuple(max(pair) for pair in zip(highest[-1], now, strict=True))
            time.sleep(POLL_SECONDS)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise SystemExit(f"training ended with code {process.returncode}.")
    return {"resident": [one[0] for one in highest], "own": [one[1] for one in highest]}


def _memory(process: int) -> tuple[float, float] | None:
    """Resident memory, and of that what backs no file, MB; None once the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in fields:
        return None
    resident, files = (int(fields[name].split()[0]) * 1024 / MEGA for name in ("VmRSS", "RssFile"))
    return resident, resident - files


def growth(values: list[float]) -> dict[str, float]:
    """A line through the values, one an epoch, from the third on: its slope and the slope's standard error.

    By the third epoch, all that happens in one has happened: steps, validation, a checkpoint, and one deleted.
    """
    settled = values[2:]
    if len(settled) < 3:
        return {"slope": 0.0, "standard_error": 0.0}
    line = stats.linregress(range(len(settled)), settled)
    return {"slope": float(line.slope), "standard_error": float(line.stderr)}


def main(arguments: list[str]) -> None:
    """Trains, prints and keeps what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"--config.train.epochs={EPOCHS.value}", "--config.train.patience=0"]
        command = [sys.executable, "main.py", *arguments[1:], *overrides]
        megabytes = watch(command, Path(folder) / "run")
    found = {
        **environment.describe(),
        "arguments": arguments[1:],
        "megabytes": megabytes,
        "peak_resident": max(megabytes["resident"]),
        "peak_own": max(megabytes["own"]),
        "growth_an_epoch": {name: growth(values[:-1]) for name, values in megabytes.items()},
    }
    for name, values in megabytes.items():
        shown = " ".join(f"{value:.0f}" for value in values)
        print(f"{name}, MB by epoch, then evaluation: {shown}")
        line = found["growth_an_epoch"][name]
        print(f"  from the third on {line['slope']:+.2f} MB an epoch (standard error {line['standard_error']:.2f})")
    if KEEP.value:
        print(f"written to {results.write('memory', found)}")


if __name__ == "__main__":
    app.run(main)

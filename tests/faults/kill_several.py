"""Kills or stops one of several processes at random moments, resumes the run, and compares what it leaves at its end.

    python tests/faults/kill_several.py --processes=4 --kills=40 --folder=kills

Prints a line for each kill, and what ended otherwise than it should. A start costs some seconds of a core for each
process. One of them, chosen at random, is struck once they have met: by SIGKILL, after which the others must end with 7
within 60 seconds and name it; or by SIGTERM, after which all must have saved, or had nothing to save, and end with 3. A
run is struck a few times on its way to its end; then its losses, parameters and metrics must be those of a run that
nobody struck, to 1e-5.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from processes import Running, started  # noqa: E402 (the folder of the tests, from a script)

# Seconds that the others have, and how often a run may be struck before it is left alone.
ALLOWED, STRIKES = 60.0, 6


def settings(folder: Path, processes: int) -> dict:
    """A small run: a hundred steps of tiny images."""
    return {
        "data.source": "phantom",
        "data.cache": folder / "cache",
        "data.image_size": 16,
        "data.val_fraction": 0.25,
        "data.test_fraction": 0.25,
        "model.width": 2,
        "model.depth": 2,
        "phantom.root": folder / "phantom",
        "phantom.patients": 16,
        "phantom.size": 32,
        "phantom.slices": (4, 6),
        "train.batch_size": processes,
        "train.checkpoint_every_steps": 3,
        "train.compilation_cache": folder / "compiled",
        "train.epochs": 4,
        "train.log_every_steps": 1,
        "train.patience": 0,
    }


def strike(running: Running, seconds: float, victim: int, kind: signal.Signals) -> str | None:
    """Strikes one process so many seconds after all met, unless the run is over; says what went wrong, if anything."""
    running.wait_for("processes,")
    time.sleep(seconds)
    if any(process.poll() is not None for process in running.processes):
        return None if set(running.codes(ALLOWED)) == {0} else "ended before it was struck"
    struck = time.monotonic()
    running.processes[victim].send_signal(kind)
    others = [number for number in range(len(running.processes)) if number != victim]
    try:
        codes = running.codes(ALLOWED, of=others)
    except AssertionError:
        return f"somebody lives after {ALLOWED:g} s"
    if set(codes) == {0}:
        return None
    code = 7 if kind == signal.SIGKILL else 3
    if set(codes) != {code}:
        return f"ended with {codes} instead of {code}"
    lines = [running.errors()[number] for number in others]
    if any(len(each) != 1 for each in lines):
        return f"said {lines}"
    if kind == signal.SIGKILL and not all(each[0].startswith(f"error: process {victim} ") for each in lines):
        return f"named another: {lines}"
    print(f"  all over after {time.monotonic() - struck:.1f} s", flush=True)
    return None


def main() -> int:
    """Returns the exit code: 1 where anything ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    folder, draw, faults = given.folder.resolve(), random.Random(given.seed), []
    chosen = settings(folder, given.processes)
    flags = ["--config=configs/default.py", *(f"--config.{key}={value}" for key, value in chosen.items())]

    def run(workdir: Path, output: Path):
        return started([*flags, f"--workdir={workdir}"], output, given.processes)

    undisturbed = folder / "undisturbed"
    for _ in range(2):  # the second time with everything decoded and compiled
        began = time.monotonic()
        with run(undisturbed, folder / "output") as running:
            assert set(running.codes(1800)) == {0}, running.said()
    start = time.monotonic() - began
    os.environ["PYTHONWARNINGS"] = "ignore"
    kills = number = 0
    while kills < given.kills:
        number += 1
        workdir = folder / f"run{number}"
        for _ in range(min(draw.randint(1, STRIKES), given.kills - kills)):
            kills += 1
            victim = draw.randrange(given.processes)
            kind = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            seconds = draw.uniform(0, start)
            print(f"{kills}: {kind.name} to {victim} of run {number} after {seconds:.1f} s", flush=True)
            with run(workdir, folder / f"output{kills}") as running:
                fault = strike(running, seconds, victim, kind)
                if fault:
                    faults.append(f"{kills}: {fault}\n{running.said()}")
        with run(workdir, folder / f"output of run {number}") as running:
            if set(running.codes(1800)) != {0}:
                faults.append(f"run {number} did not end well\n{running.said()}")
            else:
                faults += [f"run {number}: {each}" for each in differences(workdir, undisturbed)]
    print(f"{kills} kills in {number} runs of {given.processes} processes: {len(faults)} faults", *faults, sep="\n")
    return 1 if faults else 0


def differences(workdir: Path, expected: Path) -> list[str]:
    """What of a finished run is not as in another one, a line each."""
    import several_runs

    try:
        several_runs.assert_same_run(workdir, expected)
    except AssertionError as error:
        return [str(error)]
    return []


if __name__ == "__main__":
    sys.exit(main())

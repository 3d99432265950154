"""Kills or stops one of several processes at random moments, resumes the run, and compares what it leaves at its end.

    python tests/faults/kill_several.py --processes=4 --kills=40 --folder=kills

Once they have met, one of them, chosen at random, is struck: by SIGKILL, or by SIGSTOP, after which the others must end
with 7 within 60 seconds and name it; or by SIGTERM, after which all must have saved, or had nothing to save, and end
with 3. Nothing that they had started may be left. A run is struck a few times on its way to its end; then its losses,
parameters and metrics must be those of a run that nobody struck, to 1e-5.

Prints a line for each strike, and keeps what was found in done.json: the same command goes on where it was interrupted.
Processes are forked from one that has imported what they need: a start costs a second or two of a core for each.
"""

import argparse
import atexit
import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from processes import PROJECT, Running, free_port  # noqa: E402 (the folder of the tests, from a script)

from unet_jax.files import read_json, write_json  # noqa: E402

# Seconds that the others have, and that an undisturbed run has; how often a run may be struck.
ALLOWED, PATIENCE, STRIKES = 60.0, 1800.0, 6
# Each by its weight; a stopped process is missed for 40 seconds.
KINDS = {"SIGKILL": 13, "SIGTERM": 5, "SIGSTOP": 2}
DONE = "done.json"
PRELOADED = ["unet_jax.command_line.program", "unet_jax.training.train", "orbax.checkpoint"]


@dataclasses.dataclass(frozen=True)
class Strike:
    """What happens to a run.

    Attributes:
        run: its number.
        victim: the number of the process.
        kind: a signal's name.
        moment: when, from 0, where they have met, to 1, where all is trained.
    """

    run: int
    victim: int
    kind: str
    moment: float


def settings(folder: Path, processes: int) -> dict:
    """A small run: twenty steps of tiny images, whose program is traced in no time."""
    return {
        **dict.fromkeys([f"augment.{name}" for name in ("flip_rows", "flip_columns", "transpose", "rot90")], 0.0),
        "augment.affine.probability": 0.0,
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
        "train.epochs": 2,
        "train.log_every_steps": 1,
        "train.patience": 0,
        "train.tensorboard": False,
    }


class Forked:
    """A process of the program, with the ways of `subprocess.Popen`, in a session of its own."""

    def __init__(self, arguments: Sequence[str], output: Path):
        self._process = multiprocessing.Process(target=_run, args=(arguments, output))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("", timeout)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _run(arguments: Sequence[str], output: Path) -> None:
    os.setsid()
    with open(output, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(PROJECT)
    sys.argv = ["main.py", *arguments]
    from unet_jax.command_line import program

    try:
        program.run()
    finally:
        atexit._run_exitfuncs()  # as at the end of any other Python: jax parts with the others there


@contextlib.contextmanager
def started(arguments: Sequence[str], folder: Path, count: int) -> Iterator[Running]:
    """So many processes, which meet; whatever becomes of the block, none is left after it."""
    folder.mkdir(parents=True, exist_ok=True)
    outputs = [folder / f"output{number}.txt" for number in range(count)]
    for output in outputs:
        output.touch()  # it is read before a process has begun
    arguments = [*arguments, f"--coordinator=localhost:{free_port()}", f"--processes={count}"]
    processes = [Forked([*arguments, f"--process={number}"], output) for number, output in enumerate(outputs)]
    running = Running(processes, outputs)
    try:
        yield running
    finally:
        running.kill()


def planned(kills: int, processes: int, seed: int) -> list[Strike]:
    """So many strikes, always the same."""
    draw, strikes = random.Random(seed), []
    for run in itertools.count(1):
        for _ in range(draw.randint(1, STRIKES)):
            [kind] = draw.choices(list(KINDS), list(KINDS.values()))
            strikes.append(Strike(run, draw.randrange(processes), kind, draw.uniform(0, 1)))
        if len(strikes) >= kills:
            return strikes[:kills]
    raise AssertionError


def wait(running: Running, workdir: Path, moment: float, total: int) -> None:
    """Until that share of the records that the run's history still lacks is there, and then up to a second."""
    running.wait_for("processes,")
    begun = _records(workdir)
    more, rest = divmod(moment * (total + 1 - begun), 1)
    deadline = time.monotonic() + PATIENCE
    while _records(workdir) < begun + more and all(process.poll() is None for process in running.processes):
        assert time.monotonic() < deadline, running.said()
        time.sleep(0.02)
    time.sleep(rest)


def _records(workdir: Path) -> int:
    path = workdir / "history.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def strike(running: Running, planned: Strike) -> dict:
    """Strikes one process, unless the run is over.

    Returns:
        "fault", what went wrong, or None; "seconds" from the strike until all were over, or None where none was hit.
    """
    if any(process.poll() is not None for process in running.processes):
        fault = None if set(running.codes(ALLOWED)) == {0} else "ended before it was struck"
        return {"fault": fault, "seconds": None}
    struck, victim = time.monotonic(), running.processes[planned.victim]
    victim.send_signal(getattr(signal, planned.kind))
    everybody = range(len(running.processes))
    others = [number for number in everybody if number != planned.victim]
    try:
        codes = running.codes(ALLOWED, of=everybody if planned.kind == "SIGTERM" else others)
        needed = time.monotonic() - struck
        if planned.kind == "SIGSTOP":
            victim.send_signal(signal.SIGCONT)
            codes += running.codes(ALLOWED, of=[planned.victim])
    except AssertionError:
        return {"fault": f"somebody lives after {ALLOWED:g} s", "seconds": ALLOWED}
    is_over = set(codes) == {0}  # nobody needed the victim any more
    return {"fault": _fault(running, planned, codes, others), "seconds": None if is_over else round(needed, 1)}


def _fault(running: Running, planned: Strike, codes: list[int], others: list[int]) -> str | None:
    """What is wrong with how all ended."""
    if orphans := running.orphans(10):
        return f"left processes of {orphans}"
    if set(codes) == {0}:
        return None
    code = 3 if planned.kind == "SIGTERM" else 7
    if set(codes) != {code}:
        return f"ended with {codes} instead of {code}"
    lines = [running.last_words()[number] for number in others]
    begun = "process " if planned.kind == "SIGTERM" else f"error: process {planned.victim} "
    return None if all(len(each) == 1 and each[0].startswith(begun) for each in lines) else f"said {lines}"


def main() -> int:
    """Returns the exit code: 1 where anything ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    folder = given.folder.resolve()
    os.environ |= {"PYTHONWARNINGS": "ignore", "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(PRELOADED)
    flags = [f"--config.{key}={value}" for key, value in settings(folder, given.processes).items()]

    def run(workdir: Path, output: str):
        arguments = ["--config=configs/default.py", *flags, f"--workdir={workdir}"]
        return started(arguments, folder / "outputs" / output, given.processes)

    kept, undisturbed = folder / DONE, folder / "undisturbed"
    done = read_json(kept) if kept.exists() else {"strikes": [], "runs": {}}
    if not (undisturbed / "evaluation").exists():
        shutil.rmtree(undisturbed, ignore_errors=True)
        with run(undisturbed, "undisturbed") as running:
            assert set(running.codes(PATIENCE)) == {0}, running.said()

    everything = planned(given.kills, given.processes, given.seed)
    for number, one in enumerate(everything):
        workdir = folder / f"run{one.run}"
        if number >= len(done["strikes"]):
            with run(workdir, f"strike{number + 1}") as running:
                wait(running, workdir, one.moment, _records(undisturbed))
                found = strike(running, one)
                if found["fault"]:
                    print(running.said(), flush=True)
            done["strikes"].append(dataclasses.asdict(one) | found)
            write_json(kept, done)
            print(f"{number + 1}: {done['strikes'][-1]}", flush=True)
        is_last = number + 1 == len(everything) or everything[number + 1].run != one.run
        if is_last and str(one.run) not in done["runs"]:
            with run(workdir, f"end of run {one.run}") as running:
                codes = running.codes(PATIENCE)
                faults = differences(workdir, undisturbed) if set(codes) == {0} else [running.said()]
            done["runs"][str(one.run)] = faults
            write_json(kept, done)
            print(f"run {one.run}: {faults or 'as the undisturbed one'}", flush=True)
    return report(done)


def report(done: dict) -> int:
    """Prints what was found; 1 where there were faults."""
    faults = [each["fault"] for each in done["strikes"] if each["fault"]]
    faults += itertools.chain.from_iterable(done["runs"].values())
    print(f"{len(done['strikes'])} strikes in {len(done['runs'])} runs: {len(faults)} faults")
    for kind in KINDS:
        hit = [each["seconds"] for each in done["strikes"] if each["kind"] == kind and each["seconds"] is not None]
        if hit:
            print(f"{kind}: {len(hit)} before the end of the run, all over after {min(hit)} to {max(hit)} s")
    return 1 if faults else 0


def differences(workdir: Path, expected: Path) -> list[str]:
    """What of a finished run is not as in another one, a line each."""
    import several_runs

    try:
        several_runs.assert_same_run(workdir, expected)
    except AssertionError as error:
        return ["".join(traceback.format_exception(error))]
    return []


if __name__ == "__main__":
    sys.exit(main())

"""Every GPU figure of docs/performance.md, by one command on a bare machine with jax and torch; most valuable first.

    python -m benchmarks.gpu_round [--seconds=475] [--lgg=DIR] [--hippocampus=DIR] [--minutes=5]
    python -m benchmarks.table

A step is a process of its own, with a limit of its own, and is kept in benchmarks/results/gpu_round.json as soon as it
is done; the same command again does those that are left. No step is started for which less than its estimate is left of
`--seconds`. The estimates are an H200's. `--lgg` (the LGG data's kaggle_3m) and `--hippocampus` (a raw data set of
nnU-Net's) train their recipes for `--minutes`, after all else and beyond `--seconds`. `--tiny` tries every step at toy
size on any device, and keeps nothing.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from absl import app, flags

from benchmarks import patches, results
from unet_jax.run import history
from unet_jax.run.folder import HISTORY

SECONDS = flags.DEFINE_float("seconds", 475, "For all steps but the trainings.")
LGG = flags.DEFINE_string("lgg", None, "Folder of the LGG data, to train configs/lgg_gpu.py on.")
HIPPOCAMPUS = flags.DEFINE_string("hippocampus", None, "Folder of a raw data set of nnU-Net's, to train its plan on.")
MINUTES = flags.DEFINE_float("minutes", 5, "Of each training.")
TINY = flags.DEFINE_bool("tiny", False, "Every step at toy size on any device, nothing kept: a check.")
NAME = "gpu_round"
# A step that takes so many times its estimate is ended.
PATIENCE = 2.5
# And one at toy size at most so long, on whatever else a machine does.
TINY_SECONDS = 900.0
# To save a checkpoint and to validate what was trained, after the signal to stop.
GRACE_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Step:
    """One process of the round.

    Attributes:
        name: in gpu_round.json.
        estimate: seconds on an H200, programs compiled.
        command: after the interpreter's name.
        benchmark: whether it is a `--mode=benchmark`, whose benchmark.json is kept; the others keep files of their own.
        volumes: voxels an axis of the synthetic volumes that it needs.
    """

    name: str
    estimate: float
    command: tuple[str, ...]
    benchmark: bool = False
    volumes: int | None = None


def steps(work: Path, tiny: bool) -> list[Step]:
    """All steps but the trainings, in order; `work` is where their runs and data go."""
    slices = {"image_size": 16, "width": 2, "batch": 2} if tiny else {"image_size": 256, "width": 64, "batch": 32}
    size, features, batch = ((8,) * 3, (2, 4), 2) if tiny else ((128,) * 3, (32, 64, 128, 256, 320, 320), 2)
    seconds = 0.2 if tiny else 3
    check = ("--tiny", "--seconds=1") if tiny else ("--seconds=8",)
    return [
        _script("volumes_128", 110, "volumes_against_torch", "--only=128", *check),
        _benchmark(
            "volumes_end_to_end",
            75,
            work,
            "nnunet",
            f"benchmark.seconds={seconds}",
            "benchmark.first_step=False",
            f"data.root={work / 'data' / 'Dataset001_Synthetic'}",
            f"data.cache={work / 'cache'}",
            f"data.workers={0 if tiny else 8}",
            *patches.keys(size, features, batch, "float32" if tiny else "bfloat16"),
            volumes=20 if tiny else 160,
        ),
        _script("volumes_hippocampus", 85, "volumes_against_torch", "--only=40×56×40", *check),
        _script("slices", 120, "against_torch", *check, *(("--contenders=eager",) if tiny else ())),
        _benchmark(
            "slices_end_to_end",
            50,
            work,
            "default",
            f"benchmark.seconds={seconds}",
            "benchmark.feeding=True",
            "benchmark.first_step=False",
            "data.source=phantom",
            f"data.cache={work / 'cache'}",
            f"data.image_size={slices['image_size']}",
            f"phantom.root={work / 'data' / 'phantom'}",
            f"phantom.size={slices['image_size']}",
            f"phantom.patients={8 if tiny else 20}",
            f"train.batch_size={slices['batch']}",
            f"model.width={slices['width']}",
            f"model.dtype={'float32' if tiny else 'bfloat16'}",
        ),
        _benchmark(
            "small_end_to_end",
            40,
            work,
            "default",
            f"benchmark.seconds={seconds / 3}",
            "benchmark.feeding=True",
            "data.source=phantom",
            f"data.cache={work / 'cache'}",
            f"data.image_size={16 if tiny else 64}",
            f"phantom.root={work / 'data' / 'small'}",
            f"phantom.size={16 if tiny else 128}",
            f"phantom.patients={8 if tiny else 20}",
            f"train.batch_size={2 if tiny else 8}",
            f"model.width={2 if tiny else 16}",
        ),
    ]


def _script(name: str, estimate: float, script: str, *arguments: str) -> Step:
    return Step(name, estimate, ("-m", f"benchmarks.{script}", *arguments))


def _benchmark(
    name: str, estimate: float, work: Path, recipe: str, *overrides: str, volumes: int | None = None
) -> Step:
    given = [f"--config.{override}" for override in overrides]
    command = ("main.py", "--mode=benchmark", f"--config=configs/{recipe}.py", f"--workdir={work / name}", *given)
    return Step(name, estimate, command, True, volumes)


def trainings(work: Path, lgg: str | None, volumes: str | None) -> Iterator[Step]:
    """The trainings on data that are given; their runs in `work` are resumed where they ended."""
    common = (f"--config.data.cache={work / 'cache'}", "--config.train.checkpoint_every_steps=500")
    if lgg:
        command = ("main.py", "--config=configs/lgg_gpu.py", f"--config.data.root={lgg}", *common)
        yield Step("lgg_gpu", 0, (*command, f"--workdir={work / 'lgg_gpu'}"))
    if volumes:
        options = ("plan.configuration=3d_fullres", "data.fold=0", "model.dtype=bfloat16", f"data.root={volumes}")
        command = ("main.py", "--config=configs/nnunet.py", *(f"--config.{option}" for option in options), *common)
        yield Step("hippocampus", 0, (*command, f"--workdir={work / 'hippocampus'}"))


def run(step: Step, work: Path, limit: float) -> dict:
    """Does a step; what is kept of it: its seconds, how it ended, and what it found or its last lines."""
    began = time.perf_counter()
    code, output = 0, ""
    if step.volumes:  # by a process of its own: what is missing on a bare machine stops one step and not the round
        command = ("-m", "benchmarks.synthetic_volumes", str(work / "data"), str(step.volumes))
        code, output = _process(command, limit)
    if not code:
        code, output = _process(step.command, limit)
    found = {"seconds": time.perf_counter() - began, "code": code}
    if code:
        return found | {"last_lines": output.splitlines()[-12:]}
    if step.benchmark:
        found["benchmark"] = json.loads((work / step.name / "benchmark.json").read_text())
    return found


def train(step: Step, work: Path, seconds: float) -> dict:
    """Trains for so long and stops it as its user would; what is kept: how many epochs, and the newest one's record."""
    began = time.perf_counter()
    code, output = _process(step.command, seconds, stopped_by=signal.SIGTERM)
    records = history.read(work / step.name) if (work / step.name / HISTORY).exists() else []
    epochs = history.epochs_of(records)
    found = {"seconds": time.perf_counter() - began, "code": code, "epochs": len(epochs), "newest": epochs[-1:]}
    return found if epochs else found | {"last_lines": output.splitlines()[-12:]}


def _process(command: tuple[str, ...], limit: float, stopped_by: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
    """The exit code and output of a process, which is sent a signal at its limit, and killed if it takes no heed."""
    with tempfile.TemporaryFile("w+") as file:
        process = subprocess.Popen([sys.executable, *command], stdout=file, stderr=file, start_new_session=True)
        for seconds, sent in ((limit, stopped_by), (GRACE_SECONDS, signal.SIGKILL)):
            try:
                process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                # To all that it has started; but one that saves ends its workers itself.
                (os.killpg if sent == signal.SIGKILL else os.kill)(process.pid, sent)
        code = process.wait()
        file.seek(0)
        return code, file.read()


def main(_) -> None:
    """Does what is left of the round."""
    folder = Path(tempfile.mkdtemp(prefix="gpu_round_")) if TINY.value else results.FOLDER
    work = folder / "tiny" if TINY.value else Path("runs") / NAME
    done = results.read(NAME, folder) or {}
    end = time.perf_counter() + SECONDS.value
    for step in steps(work, TINY.value):
        left = end - time.perf_counter()
        if done.get(step.name, {}).get("code") == 0:
            print(f"{step.name}: done before", flush=True)
        elif left < step.estimate and not TINY.value:
            print(f"{step.name}: not started, {left:.0f} s are left and it takes some {step.estimate:.0f}", flush=True)
        else:
            limit = TINY_SECONDS if TINY.value else min(left, step.estimate * PATIENCE)
            _note(done, step.name, run(step, work, limit), folder)
    for step in trainings(work, LGG.value, HIPPOCAMPUS.value):
        _note(done, step.name, train(step, work, MINUTES.value * 60), folder)
    print(f"written to {folder / NAME}.json", flush=True)


def _note(done: dict, name: str, found: dict, folder: Path) -> None:
    done[name] = found
    results.write(NAME, done, folder)
    ended = (
        "done" if found["code"] == 0 else f"ended with code {found['code']}: " + " | ".join(found.get("last_lines", []))
    )
    print(f"{name}: {found['seconds']:.0f} s, {ended}", flush=True)


if __name__ == "__main__":
    app.run(main)

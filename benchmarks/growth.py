"""What a growing data set costs before and after training: seconds to start, memory, open files and the files written.

    python -m benchmarks.growth [--pictures=1000,10000,100000] [--pixels=16]

Makes so many single pictures with masks, each a patient, and in a process of its own each: starts for the first time
(decodes), starts again, twice, splits them, scores masks that are half right, writes the report. Nothing is trained.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from absl import app, flags

from unet_jax.data import load, splits
from unet_jax.metrics.cases import score_cases
from unet_jax.metrics.summary import summarise
from unet_jax.report import page, scores
from unet_jax.run.config import default_config

CASES = flags.DEFINE_list("pictures", ["1000", "10000", "100000"], "How many pictures, one table row each.")
SIZE = flags.DEFINE_integer("pixels", 16, "Pixels a side.")
START = flags.DEFINE_string("start", None, "Measures one start with the pictures in this folder, and no more.")
SCORE = flags.DEFINE_boolean("score", False, "With --start: splits, scores and reports them too.")
# What a process may have open on most systems, unless it asks for more.
OPEN_FILES = 1024


def make(folder: Path, cases: int, size: int) -> None:
    """Pictures of noise in images/, and masks of their brighter half in masks/."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(cases):
        picture = rng.integers(0, 256, (size, size), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number:06d}.png"), picture)
        cv2.imwrite(str(folder / "masks" / f"{number:06d}.png"), (picture > 127).astype(np.uint8) * 255)


def start(root: Path, *, score: bool) -> dict[str, float]:
    """Loads the pictures as a run does; with `score`, does what follows training. Gives seconds and memory."""
    config = default_config()
    config.data.update({"source": "pairs", "root": str(root / "data"), "cache": str(root / "cache")})
    figures, began = {}, time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal began
        figures[stage], began = time.perf_counter() - began, time.perf_counter()

    data = load.load(config)
    lap("start")
    if score:
        split = splits.make(data.cases)
        splits.slices_of(split, data.cases, "train")
        lap("split")
        _score(root / "report", data, lap)
    figures["MB resident"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    figures["open files"] = len(os.listdir("/proc/self/fd"))
    return figures


def _score(folder: Path, data: load.DataSet, lap) -> None:
    numbers = np.zeros(1, np.int32)
    top = (np.arange(data.cases[0].mask.shape[1]) < data.cases[0].mask.shape[1] // 2).astype(np.uint8)
    predicted = ((n, numbers, case.mask * top[:, None]) for n, case in enumerate(data.cases))
    found = score_cases(data.cases, predicted, tolerance=2.0, stages=lambda mask: [("as_predicted", mask)])
    lap("score")
    rows, counts = found["as_predicted"].rows, found["as_predicted"].counts
    summary = summarise(rows, counts) | {
        "split": "all",
        "split_by": "by patient",
        "checkpoint": "best",
        "checkpoint_step": 1,
        "data_fingerprint": data.fingerprint,
        "threshold": 0.5,
        "surface_tolerance": 2.0,
        "postprocess": [],
        "seconds_per_case": 0.0,
    }
    lap("summarise")
    folder.mkdir()
    scores.write(folder, summary, rows)
    page.write(
        folder / "report.html",
        title="growth",
        summary=summary,
        rows=rows,
        epochs=[],
        config={},
        sequences=data.channel_names,
        first_sequence=0,
        pictures={},
    )
    lap("report")


def measure(cases: int, size: int) -> dict[str, float]:
    """The figures of a data set of so many pictures."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root / "data", cases, size)
        time.sleep(2)  # what changed in the last two seconds is read again
        cold, warm, last = (_in_process(root, *more) for more in ([], [], ["--score"]))
        written = sorted((root / "report").iterdir())
        return {
            "cold start, s": cold["start"],
            "second start, s": warm["start"],
            "later start, s": last["start"],
            "split, s": last["split"],
            "score, s": last["score"],
            "summarise, s": last["summarise"],
            "report, s": last["report"],
            "resident after a start, MB": warm["MB resident"],
            "resident at most, MB": last["MB resident"],
            "open files": last["open files"],
            "cache, MB": sum(path.stat().st_size for path in (root / "cache").rglob("*") if path.is_file()) / 1e6,
            "largest page, MB": max(path.stat().st_size for path in written if path.suffix == ".html") / 1e6,
            "pages": sum(path.suffix == ".html" for path in written),
        }


def _in_process(root: Path, *more: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.growth", f"--start={root}", *more]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])


def main(_) -> None:
    """Measures and prints a table, a column a data set."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    if START.value:
        print(json.dumps(start(Path(START.value), score=SCORE.value)))
        return
    columns = {}
    for cases in map(int, CASES.value):
        columns[cases] = measure(cases, SIZE.value)
        print(f"{cases:,}: {columns[cases]}", file=sys.stderr, flush=True)
    print(f"| | {' | '.join(f'{cases:,}' for cases in columns)} |\n|---|{'---|' * len(columns)}")
    for name in next(iter(columns.values())):
        print(f"| {name} | {' | '.join(f'{figures[name]:,.3g}' for figures in columns.values())} |")


if __name__ == "__main__":
    app.run(main)

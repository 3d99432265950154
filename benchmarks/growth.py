"""What a growing data set costs from the first start to the last page: seconds, memory, open files, files written.

    python -m benchmarks.growth [--kinds=pictures,volumes] [--slices=1000,10000,100000] [--pixels=16]

Makes so many slices with masks, as single pictures or as volumes of 40, each case a patient. Under 1,024 open files,
and in a process of its own each: starts for the first time (decodes), starts again, twice, splits them, scores masks
that are half right and writes the report; then the program itself trains 100 steps of a tiny network, validates and
scores.
Each column is kept as soon as it is measured, and the tables of docs/growth.md are made from what there is.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import nibabel
import numpy as np
from absl import app, flags

from benchmarks import results, watched
from unet_jax.data import load, splits
from unet_jax.files import write_json
from unet_jax.metrics.cases import score_cases
from unet_jax.metrics.summary import summarise
from unet_jax.report import page, scores
from unet_jax.run.config import default_config
from unet_jax.runtime import environment, start_up

NAME = "growth"
PAGE = Path(__file__).parent.parent / "docs" / "growth.md"
KINDS = flags.DEFINE_list("kinds", ["pictures", "volumes"], "Of what: single pictures, volumes.")
SLICES = flags.DEFINE_list("slices", ["1000", "10000", "100000"], "How many, a column each.")
SIZE = flags.DEFINE_integer("pixels", 16, "A side.")
START = flags.DEFINE_string("start", None, "Measures one start with the slices in this folder, and no more.")
SCORE = flags.DEFINE_boolean("score", False, "With --start: splits, scores and reports them too.")
# What a process may have open on most systems, unless it asks for more.
OPEN_FILES = 1024
DEPTH, STEPS = 40, 100
# How the program reads them.
KEYS = {
    "pictures": {"source": "pairs"},
    "volumes": {"source": "patterns", "images": "images/{case}.nii", "masks": "masks/{case}.nii"},
}


def make(folder: Path, kind: str, slices: int, size: int) -> None:
    """Cases of noise in images/ and masks of their brighter half in masks/; beside `folder`, how they are read."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    depth = 1 if kind == "pictures" else DEPTH
    for number in range(slices // depth):
        image = rng.integers(0, 256, (size, size, depth), np.uint8)
        for name, voxels in {"images": image, "masks": (image > 127).astype(np.uint8)}.items():
            path = folder / name / f"{number:06d}"
            if kind == "pictures":
                cv2.imwrite(f"{path}.png", voxels * np.uint8(255 if name == "masks" else 1))
            else:
                nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), f"{path}.nii")
    write_json(folder.with_name("keys.json"), KEYS[kind] | {"root": str(folder)})


def start(root: Path, *, score: bool) -> dict[str, float]:
    """Loads the cases as a run does; with `score`, does what follows training. Gives seconds and memory."""
    start_up.collect_rarely()  # as the program does
    config = default_config()
    config.data.update(json.loads((root / "keys.json").read_text()) | {"cache": str(root / "cache")})
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


def _score(folder: Path, data: load.DataSet, lap: Callable[[str], None]) -> None:
    numbers = np.arange(len(data.cases[0].mask), dtype=np.int32)
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


def measure(kind: str, slices: int, size: int) -> dict[str, float]:
    """The figures of a data set of so many slices, by what they are of."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root / "data", kind, slices, size)
        time.sleep(2)  # what changed in the last two seconds is read again
        cold, warm, last = (_in_process(root, *more) for more in ([], [], ["--score"]))
        trained = watched.main_py(*_training(root, size))
        return {
            "cold start, s": cold["start"],
            "second start, s": warm["start"],
            "later start, s": last["start"],
            "split, s": last["split"],
            "score all, s": last["score"],
            "summarise, s": last["summarise"],
            "report, s": last["report"],
            "100 steps, validation and test, s": trained.seconds,
            "resident after a start, MB": warm["MB resident"],
            "resident after the report, MB": last["MB resident"],
            "resident in training and test, at most, MB": trained.resident,
            "open files after the report": last["open files"],
            "open files in training and test, at most": trained.open_files,
            **_megabytes(root),
        }


def _training(root: Path, size: int) -> list[str]:
    """The flags of a short run on the cases."""
    keys = json.loads((root / "keys.json").read_text())
    chosen = {
        **{f"data.{key}": value for key, value in keys.items()},
        "data.cache": root / "cache",
        "data.image_size": size,
        "model.width": 4,
        "model.depth": 2,
        "train.compilation_cache": root / "compiled",
        "train.epochs": 1,
        "train.steps": STEPS,
        "train.batch_size": 8,
    }
    flags_of_keys = [f"--config.{key}={value}" for key, value in chosen.items()]
    return ["--config=configs/default.py", f"--workdir={root / 'run'}", *flags_of_keys]


def _megabytes(root: Path) -> dict[str, float]:
    """The sizes of what was written: the cache, each file of the run, and the pages of the report on all cases."""
    run, written = root / "run", sorted((root / "report").glob("*.html"))
    single = [path for path in sorted(run.rglob("*")) if path.is_file() and _is_of_run(path.relative_to(run))]
    return {
        "cache, MB": _size(root / "cache"),
        **{f"{path.relative_to(run)}, MB": path.stat().st_size / 1e6 for path in single},
        "checkpoints, MB": _size(run / "checkpoints"),
        "tensorboard, MB": _size(run / "tensorboard"),
        "largest page of the report on all, MB": max(path.stat().st_size for path in written) / 1e6,
        "pages of the report on all": len(written),
    }


def _is_of_run(path: Path) -> bool:
    """Whether a file of a run is listed by itself: those of checkpoints are many, as are the pages of a report."""
    is_page = path.suffix == ".html" and path.name != "report.html"
    return path.parts[0] not in ("checkpoints", "tensorboard") and not is_page and path.name != ".lock"


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _in_process(root: Path, *more: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.growth", f"--start={root}", *more]
    return json.loads(watched.run(command).output.splitlines()[-1])


def table(found: Mapping[str, Mapping[str, float]], kind: str) -> str:
    """Markdown: a column a number of slices, and how many times as much the last has than the one before it."""
    columns = sorted(found, key=int)
    times = f"× from {int(columns[-2]):,}" if len(columns) > 1 else ""
    lines = [f"| {kind}, slices | {' | '.join(f'{int(one):,}' for one in columns)} | {times} |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name in found[columns[-1]]:
        values = [found[one].get(name) for one in columns]
        cells = ["" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2g}" for value in values]
        last = [value for value in values[-2:] if value]
        lines.append(f"| {name} | {' | '.join(cells)} | {f'{last[1] / last[0]:.1f}' if len(last) > 1 else ''} |")
    return "\n".join(lines)


def main(_) -> None:
    """Measures what is asked for, keeps it and fills docs/growth.md."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    if START.value:
        print(json.dumps(start(Path(START.value), score=SCORE.value)))
        return
    for kind in KINDS.value:
        for slices in SLICES.value:
            found = results.read(NAME) or {}
            figures = measure(kind, int(slices), SIZE.value)
            found[kind] = found.get(kind, {}) | {slices: figures}
            results.write(NAME, found | environment.describe())
            print(f"{kind} {slices}: {figures}", file=sys.stderr, flush=True)
            filled = PAGE.read_text()
            for each in KEYS.keys() & found.keys():
                filled = results.fill_section(filled, f"{NAME}_{each}", table(found[each], each))
            PAGE.write_text(filled)


if __name__ == "__main__":
    app.run(main)

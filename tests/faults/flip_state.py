"""Damages what a run keeps besides its checkpoints, one file at a time, and counts what goes unnoticed.

    python tests/faults/flip_state.py [--faults=1000] [--seed=0]

Each fault flips one bit of a file, cuts it short or removes it: config, split, record of the data, history, chosen
threshold, files of the evaluation, and decoded cases. Then all of them are read as the program reads them. A fault is
found if an error names the file, or if a damaged case is decoded again; harmless if what is read is the same without a
word; and silent if something else is read.
"""

import argparse
import collections
import contextlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PROJECT = Path(__file__).parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from faults.flip_bits import KINDS, damaged, train_small_run  # noqa: E402

from unet_jax.crossval.folds import check_whole  # noqa: E402
from unet_jax.data import load, splits  # noqa: E402
from unet_jax.errors import InputError, RunError  # noqa: E402
from unet_jax.files import read_json  # noqa: E402
from unet_jax.run import checkpoint_folder, folder, history, manifest, resume  # noqa: E402
from unet_jax.run.config import read_config  # noqa: E402

RESULTS = ("found", "harmless", "silent")


def state(workdir: Path) -> tuple[Any, ...]:
    """All that commands read of a run besides its checkpoints, and the cases, as values that can be compared.

    Raises:
        RunError: something is damaged.
    """
    config = read_config(workdir)
    data = load.load(config)
    if notes := resume.check_files(workdir, data):
        raise InputError("\n".join(notes))
    split = splits.read(workdir / folder.SPLIT, data.cases, data.unit)
    newest = checkpoint_folder.steps(workdir / folder.CHECKPOINTS)[-1]
    record = manifest.read_manifest(workdir / folder.CHECKPOINTS / str(newest))["record"]
    if record["split"] != splits.digest(split):
        raise InputError(f"{folder.SPLIT} is not the split that checkpoint {newest} was trained with")
    epochs = history.rewind(workdir, newest, record["epochs"])
    scores = workdir / folder.EVALUATION / "test"
    check_whole(scores)
    metrics = read_json(scores / "metrics.json")
    arrays = [(case.name, case.image.tobytes(), case.mask.tobytes()) for case in data.cases]
    return config.to_dict(), folder.read_data(workdir), folder.read_classes(workdir), split, epochs, metrics, arrays


def outcome(workdir: Path, whole: tuple[Any, ...]) -> str:
    """What comes of a fault: one of RESULTS, or the name of an exception that is not the program's own."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            same = state(workdir) == whole
    except RunError:
        return "found"
    except Exception as error:
        return type(error).__name__
    if not same:
        return "silent"
    return "found" if "decoded again" in said.getvalue() else "harmless"


def files_of(workdir: Path, cache: Path) -> list[Path]:
    """What is damaged: all files of the run but its checkpoints, curves and events; and the decoded cases."""
    kept = [path for path in sorted(workdir.rglob("*")) if path.is_file()]
    left_out = (folder.CHECKPOINTS, "tensorboard", "curves.png", ".lock", "stacks.txt")
    kept = [path for path in kept if path.relative_to(workdir).parts[0] not in left_out]
    return kept + [path for path in sorted(cache.rglob("*")) if path.is_file() and path.suffix != ".lock"]


def count(workdir: Path, cache: Path, faults: int, seed: int) -> tuple[collections.Counter, list[str]]:
    """How many faults of each file came to what, and a line for each that was not found."""
    rng = np.random.default_rng(seed)
    whole, files = state(workdir), files_of(workdir, cache)
    counts: collections.Counter = collections.Counter()
    missed = []
    for number in range(faults):
        path, kind = files[rng.integers(len(files))], KINDS[rng.integers(len(KINDS))]
        history_before = (workdir / folder.HISTORY).read_bytes()
        with damaged(path, kind, rng):
            found = outcome(workdir, whole)
        (workdir / folder.HISTORY).write_bytes(history_before)
        counts[path.name, kind] += 1
        counts[path.name, found] += 1
        if found not in ("found", "harmless"):
            missed.append(f"fault {number}, {kind} of {path}: {found}")
    return counts, missed


def main() -> int:
    """Prints the table; 1 if anything was silent or ended in a traceback."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        workdir = Path(temporary, "run")
        train_small_run(workdir)
        counts, missed = count(workdir, workdir.with_name("cache"), arguments.faults, arguments.seed)
    columns = [*KINDS, *RESULTS]
    print(f"{'file':<24}" + "".join(f"{column:>10}" for column in columns))
    names = sorted({name for name, _ in counts})
    for name in names:
        print(f"{name:<24}" + "".join(f"{counts[name, column]:>10}" for column in columns))
    print(f"{'all':<24}" + "".join(f"{sum(counts[name, column] for name in names):>10}" for column in columns))
    print("\n".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Damages the checkpoints of a run, one file at a time, and counts what goes unnoticed.

    python tests/faults/flip_bits.py [--faults=500] [--seed=0] [--workdir=RUN]

Each fault flips one bit of a file, cuts it short or removes it; every other one strikes any file alike, the rest strike
by size, as a disk would. Then the newest checkpoint is restored. The fault counts as found if the file is named and
what is restored is, to the bit, a checkpoint that was not touched. For the files that are read then, the last columns
say what comes of the same faults with verification switched off: other arrays without a word, an error, or no
difference.

Without --workdir a small run is trained first; a run that is given is copied, not touched.
"""

import argparse
import collections
import contextlib
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
import numpy as np

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT))

from unet_jax.run import checkpoint, checkpoint_folder, manifest  # noqa: E402
from unet_jax.run import folder as run_folder  # noqa: E402
from unet_jax.runtime import mesh  # noqa: E402

KINDS = ("flip", "truncate", "remove")
SMALL_RUN = {
    "data.source": "phantom",
    "phantom.patients": 6,
    "phantom.size": 32,
    "phantom.slices": "(4,6)",
    "data.image_size": 16,
    "model.width": 8,
    "model.depth": 2,
    "train.batch_size": 4,
    "train.epochs": 3,
    "train.patience": 0,
}


@contextlib.contextmanager
def damaged(path: Path, kind: str, rng: np.random.Generator) -> Iterator[None]:
    """`path` with one bit flipped, cut short at a random place or removed; afterwards it is as it was."""
    raw = path.read_bytes()
    if kind == "remove" or not raw:
        path.unlink()
    elif kind == "truncate":
        path.write_bytes(raw[: rng.integers(len(raw))])
    else:
        flipped = np.frombuffer(raw, np.uint8).copy()
        flipped[rng.integers(len(raw))] ^= np.uint8(1 << rng.integers(8))
        path.write_bytes(flipped)
    try:
        yield
    finally:
        path.write_bytes(raw)


@contextlib.contextmanager
def verification_switched_off() -> Iterator[None]:
    """Every file and every array passes for what was written."""
    passing = collections.defaultdict(lambda: mock.ANY)
    with (
        mock.patch.object(manifest, "faults", return_value=[]),
        mock.patch.object(manifest, "leaf_digests", return_value=passing),
    ):
        yield


def likeness(folder: Path) -> dict:
    """Shapes and types of the arrays of a checkpoint's network, as its manifest tells them."""
    step = checkpoint_folder.steps(folder)[-1]
    leaves = manifest.read_manifest(folder / str(step))["leaves"]["model"]
    replicated = mesh.replicated(mesh.data_mesh())
    tree: dict = {"params": {}, "batch_stats": {}}
    for name, leaf in leaves.items():
        *groups, last = name.split("/")
        place = tree
        for group in groups:
            place = place.setdefault(int(group) if group.isdigit() else group, {})
        place[last] = jax.ShapeDtypeStruct(leaf["shape"], np.dtype(leaf["dtype"]), sharding=replicated)
    return {"model": tree}


def digests(restored: checkpoint.Restored) -> dict:
    """Of the arrays that were restored."""
    return manifest.leaf_digests(restored.items["model"])


def outcome(folder: Path, like: dict, name: str, whole: dict[int, dict]) -> str:
    """ "found", or what went wrong, of a fault in the file `name`; `whole` has the digests of each undamaged step."""
    try:
        restored = checkpoint.restore(folder, "newest", like)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    lines = [line for faults in restored.damaged.values() for line in faults]
    if [line.split(" ")[0] for line in lines] != [name]:
        return f"not named: {lines}"
    if str(restored.step) == name.split("/")[0] or digests(restored) != whole[restored.step]:
        return "other arrays"
    return "found"


def unverified(folder: Path, like: dict, whole: dict[int, dict]) -> str:
    """What comes of a fault when nothing is verified."""
    try:
        with verification_switched_off():
            restored = checkpoint.restore(folder, "newest", like)
    except Exception:
        return "an error"
    return "the same" if digests(restored) == whole[restored.step] else "silently other"


def sort_of(name: str) -> str:
    """A file's name without the step and the hexadecimal names that differ from run to run."""
    parts = name.split("/")[1:]
    return "/".join("…" if len(part) == 32 else part for part in parts)


def count(folder: Path, faults: int, seed: int) -> tuple[collections.Counter, list[str]]:
    """How many faults of each sort of file came to what, and a line for each that was not found."""
    rng = np.random.default_rng(seed)
    like = likeness(folder)
    steps = checkpoint_folder.steps(folder)
    whole = {step: manifest.read_manifest(folder / str(step))["leaves"]["model"] for step in steps}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    sizes = np.array([path.stat().st_size for path in files])
    counts: collections.Counter = collections.Counter()
    missed = []
    for number in range(faults):
        by_size = sizes / sizes.sum() if number % 2 else None
        path, kind = files[rng.choice(len(files), p=by_size)], KINDS[rng.integers(len(KINDS))]
        name = path.relative_to(folder).as_posix()
        with damaged(path, kind, rng):
            found = outcome(folder, like, name, whole)
            without = unverified(folder, like, whole) if name.startswith(f"{steps[-1]}/model/") else None
        counts[sort_of(name), kind] += 1
        counts[sort_of(name), "found" if found == "found" else "missed"] += 1
        counts[sort_of(name), without] += 1
        if found != "found":
            missed.append(f"fault {number}, {kind} of {name}: {found}")
    return counts, missed


def train_small_run(workdir: Path) -> None:
    """A run of three epochs, from the command line."""
    settings = SMALL_RUN | {"phantom.root": workdir.with_name("phantom"), "data.cache": workdir.with_name("cache")}
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "main.py", "--config=configs/default.py", f"--workdir={workdir}", *flags]
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Prints the table; 1 if anything was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=Path)
    arguments = parser.parse_args()
    # orbax also prints what it raises, some of it late.
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda unraisable: None
    with tempfile.TemporaryDirectory() as temporary:
        workdir = arguments.workdir or Path(temporary) / "run"
        if arguments.workdir is None:
            train_small_run(workdir)
        folder = Path(temporary) / "checkpoints"
        shutil.copytree(workdir / run_folder.CHECKPOINTS, folder)
        counts, missed = count(folder, arguments.faults, arguments.seed)
    columns = [*KINDS, "found", "missed", "silently other", "an error", "the same"]
    print(f"{'file':<28}" + "".join(f"{column:>16}" for column in columns))
    sorts = sorted({sort for sort, _ in counts})
    for sort in sorts:
        print(f"{sort:<28}" + "".join(f"{counts[sort, column]:>16}" for column in columns))
    print(f"{'all':<28}" + "".join(f"{sum(counts[sort, column] for sort in sorts):>16}" for column in columns))
    print("\n".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

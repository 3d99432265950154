"""What a data set of many cases costs to decode, to start with and to read: seconds, memory, open files and maps.

    python -m benchmarks.many_cases [--cases=100000] [--size=16]

Each case is a picture of its own, three channels and a mask, made of its number: no file is read, so that only the
cache is measured. Resident memory includes pages of the pools, which the system takes back when it needs room.
"""

import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from unet_jax.data import cache, pipeline, pool_index, pools, splits
from unet_jax.data.case import Case
from unet_jax.data.reader import CaseFiles, Reader
from unet_jax.data.slices import Slices

CASES = flags.DEFINE_integer("cases", 100_000, "Single pictures.")
SIZE = flags.DEFINE_integer("size", 16, "Pixels a side.")
# What a process may have open on most systems, unless it asks for more.
OPEN_FILES = 1024


def reader(cases: int, size: int) -> Reader:
    """A reader of that many pictures that are on no disk."""

    def find(_: Path) -> list[CaseFiles]:
        return [CaseFiles(f"{n:06d}", f"patient {n:06d}", (Path(f"{n:06d}"),), ()) for n in range(cases)]

    def read(_: Path, path: Path) -> bytes:
        return int(path.name).to_bytes(4, "little") * size**2

    def decode(files: CaseFiles, read) -> Case:
        pixels = np.frombuffer(read(files.images[0]), np.uint8).reshape(1, size, size, 4)
        return Case(files.name, files.patient, pixels[..., :3], pixels[..., 0] % 2)

    return Reader("number 1", find, decode, read)


def measure(cases: int, size: int, folder: Path) -> dict[str, float]:
    """Seconds of each stage, and what the process holds at the end; decoded cases are left in `folder`.

    Returns:
        seconds by stage: "decode" (the first start), "start" (each later one), of which "verify" is spent on decoded
        arrays, "split", and "epoch", a pass over all of the training side; then "GB resident" at most, "open files" and
        "maps" of decoded cases, and "GB decoded".
    """
    figures = {}

    def timed(stage: str, function, *arguments):
        began = time.perf_counter()
        result = function(*arguments)
        figures[stage] = time.perf_counter() - began
        return result

    made = reader(cases, size)
    timed("decode", cache.load, made, Path(), folder)
    opened, *_ = timed("start", cache.load, made, Path(), folder)
    [decoded] = folder.glob("*.pools-1")
    timed("verify", lambda: pools.damaged(decoded, pool_index.read(decoded)))
    split = timed("split", splits.make, opened)

    def epoch() -> None:
        slices = Slices(opened, splits.slices_of(split, opened, "train"))
        for _ in pipeline.training_batches(slices, batch_size=32, seed=0, epochs=1, tumour_share=0.25):
            pass

    timed("epoch", epoch)
    return figures | {
        "GB resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "open files": _open_files(decoded),
        "maps": _maps(decoded),
        "GB decoded": sum(path.stat().st_size for path in decoded.iterdir()) / 1e9,
    }


def _open_files(folder: Path) -> int:
    targets = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_open(name)]
    return sum(target.startswith(f"{folder}/") for target in targets)


def _is_open(descriptor: str) -> bool:
    # The one that lists the folder is closed by now.
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


def _maps(folder: Path) -> int:
    return Path("/proc/self/maps").read_text().count(f" {folder}/")


def main(_) -> None:
    """Measures and prints the figures."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    with tempfile.TemporaryDirectory() as folder:
        for name, figure in measure(CASES.value, SIZE.value, Path(folder)).items():
            print(f"{name}: {figure:,.3g}", flush=True)


if __name__ == "__main__":
    app.run(main)

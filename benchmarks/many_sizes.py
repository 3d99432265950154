"""What 1,000 pictures of 1,000 sizes cost to evaluate, beside as many pictures of one size and as many pixels.

    python -m benchmarks.many_sizes [--pictures=1000] [--rounds=3]

Rows and columns are from 128 to 383, no pair twice; the one size is 256×256. A run is trained for two steps, and its
evaluation of both folders is timed in turns, each a command of its own with empty caches: it decodes, compiles,
segments and scores. The figures go to docs/growth.md.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from absl import app, flags

from benchmarks import growth, results, watched
from unet_jax.runtime import environment

NAME = "many_sizes"
PICTURES = flags.DEFINE_integer("pictures", 1000, "How many.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often both folders are evaluated.")
# The least rows and columns, and above the most.
LEAST, MOST = 128, 384
ONE = (256, 256)


def sizes(count: int) -> list[tuple[int, int]]:
    """So many different ones."""
    span = MOST - LEAST
    drawn = np.random.default_rng(0).choice(span**2, count, replace=False)
    return [(LEAST + int(one) // span, LEAST + int(one) % span) for one in drawn]


def make(folder: Path, of_each: Iterable[tuple[int, int]]) -> None:
    """Pictures of these sizes: a bright disc in noise, and its mask."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, (rows, columns) in enumerate(of_each):
        mask = np.zeros((rows, columns), np.uint8)
        cv2.circle(mask, (columns // 2, rows // 2), min(rows, columns) // 4, 255, -1)
        image = rng.integers(0, 128, mask.shape, np.uint8) + mask // 2
        cv2.imwrite(str(folder / "images" / f"{number:04d}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{number:04d}.png"), mask)


def measure(pictures: int, rounds: int, root: Path) -> dict:
    """Seconds of each evaluation, and the ratios of many sizes to one, round by round."""
    folders = {"one": [ONE] * pictures, "many": sizes(pictures)}
    for name, of_each in folders.items():
        make(root / name, of_each)
    keys = {"data.source": "pairs", "data.root": root / "one", "data.image_size": 128, "model.width": 8}
    keys |= {"model.depth": 3, "train.epochs": 1, "train.steps": 2, "train.batch_size": 8}
    flags_of_keys = [f"--config.{key}={value}" for key, value in keys.items()]
    watched.main_py("--config=configs/default.py", f"--workdir={root / 'run'}", f"--cache_dir={root}", *flags_of_keys)
    found = {name: {"seconds": [], "cpu_seconds": []} for name in folders}
    for number in range(rounds):
        for name in list(folders)[:: 1 if number % 2 else -1]:
            with tempfile.TemporaryDirectory(dir=root) as new:
                where = [f"--data={root / name}", f"--output={new}/scores", f"--cache_dir={new}/cache"]
                one = watched.main_py("--mode=evaluate", "--split=all", f"--workdir={root / 'run'}", *where)
            found[name]["seconds"].append(one.seconds)
            found[name]["cpu_seconds"].append(one.cpu_seconds)
            print(f"{name}: {one.seconds:.1f} s, {one.cpu_seconds:.1f} s of processor", file=sys.stderr, flush=True)
    ratios = {
        unit: [many / one for many, one in zip(found["many"][unit], found["one"][unit], strict=True)]
        for unit in ("seconds", "cpu_seconds")
    }
    return {"pictures": pictures, **found, "ratios": ratios, **environment.describe()}


def table(found: dict) -> str:
    """Markdown: the median evaluation of each folder, and the median ratio with the least and the most."""
    count = f"{found['pictures']:,}"
    lines = [f"| {count} pictures | of one size | of {count} sizes | ratio |", "|---|---|---|---|"]
    for unit, title in (("seconds", "seconds"), ("cpu_seconds", "seconds of processor")):
        one, many = (statistics.median(found[name][unit]) for name in ("one", "many"))
        ratios = found["ratios"][unit]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {title} | {one:.1f} | {many:.1f} | {spread} |")
    return "\n".join(lines)


def main(_) -> None:
    """Measures, keeps the figures and fills docs/growth.md."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(PICTURES.value, ROUNDS.value, Path(folder))
    results.write(NAME, found)
    growth.PAGE.write_text(results.fill_section(growth.PAGE.read_text(), NAME, table(found)))
    print(table(found))


if __name__ == "__main__":
    app.run(main)

"""What one big volume takes of the host's memory, in training, evaluation and prediction.

    python -m benchmarks.big_volume [--shape=400,512,512] [--types=int16,float32]

Three cases of noise with a bright ball, as int16 and as float32; by default each volume has 419 MB of float32 voxels. A
tiny 2-D network is trained on their slices for 200 steps, which reads and decodes the cases, validates and scores; the
run is evaluated, and predicts one of the volumes. Each command is watched from outside, and so is the same one on tiny
volumes, which takes what the program itself takes. The figures go to docs/growth.md.
"""

import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from absl import app, flags

from benchmarks import growth, results, watched
from unet_jax.runtime import environment

NAME = "big_volume"
SHAPE = flags.DEFINE_list("shape", ["400", "512", "512"], "Slices, rows and columns.")
TYPES = flags.DEFINE_list("types", ["int16", "float32"], "As the files hold the voxels.")
TINY = (16, 64, 64)
CASES = 3


def make(folder: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Cases in images/, masks in masks/, and one image by itself in input/."""
    for name in ("images", "masks", "input"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    middle = [length // 2 for length in shape]
    for number in range(CASES):
        image = rng.integers(0, 400, shape, np.int16)
        mask = np.zeros(shape, np.uint8)
        rows, columns = (np.arange(length) for length in shape[1:])
        radius = min(shape) // 4
        for place in range(middle[0] - radius, middle[0] + radius):
            inside = (rows[:, None] - middle[1]) ** 2 + (columns - middle[2]) ** 2 < radius**2 - (
                place - middle[0]
            ) ** 2
            mask[place], image[place] = inside, image[place] + 600 * inside
        # Files have columns first, and slices last.
        affine = np.diag([1, 1, 2, 1])
        voxels = nibabel.Nifti1Image(image.T.astype(dtype), affine)
        nibabel.save(voxels, folder / "images" / f"case{number}.nii")
        nibabel.save(nibabel.Nifti1Image(mask.T, affine), folder / "masks" / f"case{number}.nii")
    (folder / "input" / "case0.nii").hardlink_to(folder / "images" / "case0.nii")


def commands(root: Path) -> dict[str, list[str]]:
    """The flags of each command, by what it does."""
    keys = {
        "data.source": "patterns",
        "data.root": root / "data",
        "data.images": "images/{case}.nii",
        "data.masks": "masks/{case}.nii",
        "data.image_size": 64,
        "data.val_fraction": 0.3,
        "data.test_fraction": 0.5,
        "model.width": 2,
        "model.depth": 2,
        "optim.learning_rate": 0.01,
        "train.epochs": 4,
        "train.steps": 200,
        "train.batch_size": 8,
    }
    run, caches = f"--workdir={root / 'run'}", f"--cache_dir={root / 'caches'}"
    return {
        "train": ["--config=configs/default.py", run, caches, *(f"--config.{key}={at}" for key, at in keys.items())],
        "evaluate": ["--mode=evaluate", run, caches],
        "predict": ["--mode=predict", run, caches, f"--input={root / 'data' / 'input'}", f"--output={root / 'masks'}"],
    }


def measure(shape: tuple[int, ...], dtype: str) -> dict:
    """MB of each command on volumes of a type, and on tiny ones; all of it, and without the pages of files."""
    found = {}
    for size in (TINY, shape):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / "data", size, dtype)
            for name, flags_of_command in commands(Path(folder)).items():
                seen = watched.main_py(*flags_of_command)
                of_size = found.setdefault(f"{name}, {dtype}", {}).setdefault("tiny" if size == TINY else "big", {})
                of_size |= {"resident": seen.resident, "own": seen.own, "seconds": seen.seconds}
                print(f"{name}, {dtype}, {size}: {of_size}", file=sys.stderr, flush=True)
    return found


def table(found: dict) -> str:
    """Markdown: a row a command; beyond what it takes with tiny volumes, as multiples of the volume's float32."""
    volume = found["megabytes"]
    title = f"{'×'.join(map(str, found['shape']))}, {volume:.0f} MB as float32"
    columns = (title, "at most, MB", "own, MB", "with tiny volumes, MB", "own, in volumes", "all, in volumes")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, sizes in found["found"].items():
        big, tiny = sizes["big"], sizes["tiny"]
        shares = (f"{(big[key] - tiny[key]) / volume:.2f}" for key in ("own", "resident"))
        cells = f"{big['resident']:,.0f} | {big['own']:,.0f} | {tiny['resident']:,.0f}"
        lines.append(f"| {name} | {cells} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main(_) -> None:
    """Measures, keeps the figures and fills docs/growth.md."""
    shape = tuple(map(int, SHAPE.value))
    for dtype in TYPES.value:
        before = results.read(NAME) or {}
        earlier = before["found"] if before.get("shape") == list(shape) else {}
        found = {"shape": shape, "megabytes": 4 * int(np.prod(shape)) / 1e6, "found": earlier | measure(shape, dtype)}
        results.write(NAME, found | environment.describe())
        growth.PAGE.write_text(results.fill_section(growth.PAGE.read_text(), NAME, table(found)))
        print(table(found), flush=True)


if __name__ == "__main__":
    app.run(main)

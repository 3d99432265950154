"""What benchmarks.prediction predicts, and the runs that it predicts with: all synthetic."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np

from benchmarks import patches, synthetic_volumes
from unet_jax.data import phantom


@dataclasses.dataclass(frozen=True)
class Row:
    """One kind of work.

    Attributes:
        name: of its folder.
        title: what the table calls it.
        write: writes what is trained on and what is predicted into a folder, and returns the latter.
        overrides: of the recipe, in its training.
        recipe: the file in configs.
        torch: what the script in PyTorch is told.
    """

    name: str
    title: str
    write: Callable[[Path], Path]
    overrides: tuple[str, ...]
    recipe: str
    torch: dict[str, Any]

    def training(self, work: Path) -> list[str]:
        """The arguments of one step of training, on what `write` wrote to the row's folder in `work`."""
        data = work / self.name / "data"
        common = (
            "train.steps=1",
            "train.tensorboard=False",
            f"train.compilation_cache={work / 'compiled'}",
            f"data.cache={work / 'cache'}",
            f"data.root={data / synthetic_volumes.NAME if self.name == 'ct' else data}",
        )
        return [f"--config=configs/{self.recipe}.py", *(f"--config.{one}" for one in (*common, *self.overrides))]


def rows(device: str, *, tiny: bool) -> list[Row]:
    """All rows for "cpu" or "gpu": smaller networks on a CPU, toys where `tiny`."""
    width = 2 if tiny else 64 if device == "gpu" else 16
    size = 32 if tiny else 256
    batch = 2 if tiny else 8
    dtype = "bfloat16" if device == "gpu" and not tiny else "float32"
    pictures = {"kind": "pictures", "width": width, "size": size, "batch": batch, "dtype": dtype}
    common = (f"model.width={width}", f"data.image_size={size}", f"train.batch_size={batch}", f"model.dtype={dtype}")
    slices, count = (5, 3) if tiny else (24, 250)
    patch, features = ((8,) * 3, (2, 4)) if tiny else ((128,) * 3, (8, 16, 32, 64, 80, 80))
    if device == "gpu" and not tiny:
        features = (32, 64, 128, 256, 320, 320)
    shape = (16, 16, 12) if tiny else (512, 512, 400)
    whole = "×".join(map(str, shape))
    what = f"{device}, width {width}, {size}², batch {batch}, {dtype}"
    return [
        Row(
            "scan",
            f"one scan of {slices} slices of {size}×{size}×3 ({what})",
            lambda folder: write_scan(folder, size, slices),
            ("data.source=lgg", *common),
            "default",
            pictures | {"channels": 3},
        ),
        Row(
            "pictures",
            f"{count} ultrasound pictures of about {'30×24' if tiny else '580×420'} ({what})",
            lambda folder: write_pictures(folder, count, (24, 30) if tiny else (420, 580)),
            ("data.source=pairs", *common),
            "default",
            pictures | {"channels": 1},
        ),
        Row(
            "ct",
            f"one CT of {whole} ({device}, features {features[0]} to {features[-1]}, {patch[0]}³, batch 1, {dtype})",
            lambda folder: write_volume(folder, shape, patch[0]),
            (*patches.keys(patch, features, 1, dtype), "eval.tta=False"),
            "nnunet",
            {"kind": "volume", "patch": patch, "features": features, "dtype": dtype},
        ),
    ]


def write_scan(folder: Path, size: int, slices: int) -> Path:
    """Eight thin scans of the phantom to train on, and one to predict, without its masks; returns its folder."""
    phantom.write(folder / "data", seed=0, patients=8, size=size, slices=(3, 4))
    phantom.write(folder / "input", seed=1, patients=1, size=size, slices=(slices, slices))
    for path in folder.glob("input/*/*_mask.tif"):
        path.unlink()
    [scan] = [path for path in (folder / "input").iterdir() if path.is_dir()]
    return scan


def write_pictures(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Twelve grey pictures with masks to train on, and `count` of several sizes to predict; returns their folder."""
    for number in range(12 + count):
        rng = np.random.default_rng(number)
        rows, columns = (int(n * rng.uniform(0.9, 1.1)) for n in size)
        mask = np.zeros((rows, columns), np.uint8)
        centre, axes = (columns // 2, rows // 2), (columns // 5, rows // 6)
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        image = np.clip(rng.rayleigh(60, mask.shape) * (1 - 0.6 * (mask > 0)), 0, 255).astype(np.uint8)
        for kind, array in {"images": image, "masks": mask}.items():
            place = folder / "data" / kind if number < 12 else folder / "input"
            place.mkdir(parents=True, exist_ok=True)
            if number < 12 or kind == "images":
                cv2.imwrite(str(place / f"picture_{number:03d}.png"), array)
    return folder / "input"


def write_volume(folder: Path, shape: tuple[int, ...], patch: int) -> Path:
    """Eight cubes to train on, a little larger than a patch, and one CT to predict; returns its file."""
    synthetic_volumes.write(folder / "data", size=patch + patch // 4, cases=8)
    rng = np.random.default_rng(0)
    grid = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    body = sum(axis**2 for axis in grid) < 0.5
    volume = (1000 * body - 900 + rng.integers(-50, 50, shape)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "ct.nii")
    return folder / "ct.nii"

"""What a network that was trained on 8 bits makes of the same pictures with 16, and whether it is said.

    python -m benchmarks.another_scale --folder=FOLDER

Trains a small network on the phantom's FLAIR as PNG of 8 bits, and scores the patients that it did not train on as they
are, with 16 bits (times 257, the same picture), and a fifth as bright and five times (cut off at 255). A few minutes on
two CPU cores.
"""

import argparse
import contextlib
import io
from pathlib import Path

import cv2
import numpy as np

from configs import default
from unet_jax.data import phantom
from unet_jax.data.formats import lgg
from unet_jax.data.formats.image_file import read_file
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.run.resolve import resolve
from unet_jax.training.train import train

PATIENTS, TRAINED = 30, 22
CHANGES = {
    "as trained": lambda image: image,
    "16 bits": lambda image: image.astype(np.uint16) * 257,
    "a fifth as bright": lambda image: image // 5,
    "five times as bright": lambda image: np.minimum(image.astype(int) * 5, 255).astype(np.uint8),
}


def _write(root: Path, cases: list, change) -> None:
    for case in cases:
        folder = root / case.patient
        folder.mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(case.image[..., lgg.FLAIR], case.mask, strict=True)):
            cv2.imwrite(str(folder / f"{number}.png"), change(image))
            cv2.imwrite(str(folder / f"{number}_mask.png"), mask * np.uint8(255))


def main() -> None:
    """Prints a line for each change: mean Dice per patient, and the warning."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder
    phantom.write_once(folder / "phantom", seed=0, patients=PATIENTS, size=64, slices=(12, 16))
    cases = [
        lgg.decode(each, lambda path: read_file(folder / "phantom", path)) for each in lgg.find(folder / "phantom")
    ]
    _write(folder / "train", cases[:TRAINED], CHANGES["as trained"])
    config = default.get_config()
    given = {
        "data.root": str(folder / "train"),
        "data.cache": str(folder / "cache"),
        "data.images": "{patient}/{slice}.png",
        "data.masks": "{patient}/{slice}_mask.png",
        "data.image_size": 64,
        "model.width": 12,
        "model.norm": "instance",
        "train.batch_size": 8,
        "train.epochs": 10,
        "train.tensorboard": False,
        "optim.schedule": "cosine",
        "watchdog_seconds": 0.0,
    }
    config.update_from_flattened_dict(given)
    train(resolve(config, given)[0], folder / "run")
    for name, change in CHANGES.items():
        root = folder / name.replace(" ", "_")
        _write(root, cases[TRAINED:], change)
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            metrics = evaluate(folder / "run", side="all", data=root)
        lines = [line for line in said.getvalue().splitlines() if "than training" in line]
        print(f"{name}: Dice {metrics['dice_per_patient']['mean']:.3f}; {' '.join(lines) or 'no warning'}")


if __name__ == "__main__":
    main()

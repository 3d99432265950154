"""The best Dice there can be at a number of pixels: true masks, shrunk and enlarged again.

    python -m benchmarks.resolution --root=data/kaggle_3m

Prints its mean, median and least over the patients for several values of config.data.image_size.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from unet_jax import metrics
from unet_jax.data.formats import lgg
from unet_jax.data.formats.image_file import read_file

SIZES = (48, 64, 96, 128, 192)


def redrawn(mask: UInt8[np.ndarray, "d h w"], size: int) -> UInt8[np.ndarray, "d h w"]:
    """A mask of 0 and 1 as a network would give it that gets every one of size × size pixels right."""
    whole = (mask.shape[2], mask.shape[1])
    small = [cv2.resize(one.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) for one in mask]
    return np.stack([cv2.resize(one, whole, interpolation=cv2.INTER_LINEAR) >= 0.5 for one in small]).astype(np.uint8)


def main() -> None:
    """Redraws the masks of all patients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/kaggle_3m"))
    root = parser.parse_args().root
    masks = [lgg.decode(files, lambda path: read_file(root, path)).mask for files in lgg.find(root)]
    for size in SIZES:
        dice = [metrics.dice(metrics.count(redrawn(mask, size), mask).sum(0), empty=1.0) for mask in masks]
        print(f"{size:4d}²  {np.mean(dice):.3f} mean, {np.median(dice):.3f} median, {np.min(dice):.3f} least")


if __name__ == "__main__":
    main()

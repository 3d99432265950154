"""The built-in phantom: a data set of synthetic brain MRI in the Kaggle LGG layout, from a seed."""

import csv
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from unet_jax.data.phantom.scan import generate_case
from unet_jax.errors import InputError, StorageError

RECORD = "phantom.json"


def write_once(root: Path, *, seed: int, patients: int, size: int, slices: tuple[int, int]) -> None:
    """Writes the data set unless `root` already holds the same one; the arguments are those of `write`.

    Raises:
        InputError: root holds something else, or a number is out of range.
    """
    wanted = _record(seed, patients, size, slices)
    if not root.exists():
        try:
            write(root, seed=seed, patients=patients, size=size, slices=slices)
        except OSError:
            if not root.exists():  # else another process was faster
                raise
    try:
        found = json.loads((root / RECORD).read_text())
    except (OSError, ValueError):
        found = None
    if found != wanted:
        raise InputError(
            f"{root} holds {found or 'no phantom'}, and config.phantom asks for {wanted}: remove the folder, or name "
            "another in config.phantom.root."
        )


def write(root: Path, *, seed: int, patients: int, size: int, slices: tuple[int, int]) -> None:
    """Write a phantom data set: `<root>/<patient>_<date>/<patient>_<date>_<slice>[_mask].tif` and `data.csv`.

    The folder appears whole or not at all. A patient does not depend on how many there are.

    Args:
        root: the folder to make.
        seed: fixes every byte.
        patients: how many, one scan each.
        size: rows and columns of a slice, in pixels.
        slices: the fewest and the most slices of a scan.

    Raises:
        InputError: root exists, or a number is out of range.
        StorageError: a file cannot be written.
    """
    fewest, most = slices
    if patients < 1 or size < 16 or not 3 <= fewest <= most:
        raise InputError(
            f"phantom: cannot make {patients} patients of size {size} and {fewest} to {most} slices: give at "
            "least 1 patient, a size of at least 16, and at least 3 slices, the smaller number first."
        )
    if root.exists():
        raise InputError(f"{root}: exists, and a phantom goes into a new folder: remove it or name another.")
    root.parent.mkdir(parents=True, exist_ok=True)
    counts = np.random.default_rng([seed, 0]).integers(fewest, most, size=patients, endpoint=True)
    table = [("Patient", "gender", "age_at_initial_pathologic", "source")]
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as scratch:
        partial = Path(scratch) / root.name
        partial.mkdir()
        progress = tqdm(counts.tolist(), desc="phantom", unit="patient", disable=None)
        for index, count in enumerate(progress, start=1):  # from 1: (seed, 0) drew the counts
            image, mask = generate_case(seed, index, size=size, slices=count)
            patient = f"TCGA_PH_{index:04d}"
            _write_case(partial / f"{patient}_20000101", image, mask)
            table.append((patient, 1 + index % 2, 20 + 7 * index % 55, "synthetic"))
        with open(partial / "data.csv", "w", newline="") as file:
            csv.writer(file).writerows(table)
        (partial / RECORD).write_text(json.dumps(_record(seed, patients, size, slices)) + "\n")
        partial.rename(root)


def _record(seed: int, patients: int, size: int, slices: tuple[int, int]) -> dict:
    return {"seed": seed, "patients": patients, "size": size, "slices": list(slices)}


def _write_case(folder: Path, image: UInt8[np.ndarray, "d h w 3"], mask: UInt8[np.ndarray, "d h w"]) -> None:
    folder.mkdir()
    plain = (cv2.IMWRITE_TIFF_COMPRESSION, 1)  # uncompressed: the fastest to read
    for number, (pixels, labels) in enumerate(zip(image, mask, strict=True), start=1):
        bgr = np.ascontiguousarray(pixels[..., ::-1])  # as imwrite takes it
        for ending, content in (("", bgr), ("_mask", labels * np.uint8(255))):
            path = folder / f"{folder.name}_{number}{ending}.tif"
            if not cv2.imwrite(str(path), content, plain):
                raise StorageError(f"{path}: could not be written: free some room, or set config.phantom.root.")

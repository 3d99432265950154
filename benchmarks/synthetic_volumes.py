"""Volumes in nnU-Net's raw layout for benchmarks without data: noise and balls, of which nothing is to be learnt.

python -m benchmarks.synthetic_volumes FOLDER VOXELS   eight cubes of so many voxels an axis
"""

import json
import sys
from pathlib import Path

import nibabel
import numpy as np

NAME = "Dataset001_Synthetic"


def write(folder: Path, *, size: int, cases: int) -> Path:
    """Writes the data set unless it is there: cubes of `size` voxels, float32, with two classes; returns its folder."""
    root = folder / NAME
    if (root / "dataset.json").exists():
        return root
    for side in ("imagesTr", "labelsTr"):
        (root / side).mkdir(parents=True, exist_ok=True)
    axis = np.arange(size) - size / 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    mask = np.select([radius < size / 6, radius < size / 3], [2, 1], 0).astype(np.uint8)
    for number in range(cases):
        noise = np.random.default_rng(number).standard_normal(mask.shape, np.float32)
        for name, array in ((f"imagesTr/case_{number}_0000", 10 * mask + noise), (f"labelsTr/case_{number}", mask)):
            nibabel.save(nibabel.Nifti1Image(array.astype(array.dtype), np.eye(4)), root / f"{name}.nii")
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "shell": 1, "core": 2},
        "numTraining": cases,
        "file_ending": ".nii",
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


if __name__ == "__main__":
    write(Path(sys.argv[1]), size=int(sys.argv[2]), cases=8)

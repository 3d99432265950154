"""Small volumes in nnU-Net's raw layout, for tests that train on patches."""

import json
from pathlib import Path

import nibabel
import numpy as np

SPACING = (1.0, 1.0, 1.2)


def write(root: Path, cases: int = 8, classes: int = 2, spacing: tuple[float, ...] = SPACING) -> Path:
    """Balls, of two halves where there are two classes, brighter than what is around them; sizes differ."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for number in range(cases):
        rng = np.random.default_rng(number)
        shape = rng.integers(14, 20, 3)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        centre = shape / 2 + rng.uniform(-2, 2, 3)
        mask = (np.linalg.norm(grid - centre, axis=-1) < 5).astype(np.uint8)
        if classes == 2:
            mask[(mask > 0) & (grid[..., 0] > centre[0])] = 2
        image = (100 + 80 * mask + rng.normal(0, 5, shape)).astype(np.float32)
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = (3, -5, 7)
        nibabel.save(nibabel.Nifti1Image(image, affine), root / f"imagesTr/case_{number}_0000.nii.gz")
        nibabel.save(nibabel.Nifti1Image(mask, affine), root / f"labelsTr/case_{number}.nii.gz")
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, **{name: n for n, name in enumerate("ab"[:classes], 1)}},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root

"""A tiny data set in nnU-Net's raw layout: bright balls in noise, of two labels."""

import dataclasses
import json
from pathlib import Path

import nibabel
import numpy as np
from ml_collections import ConfigDict

from unet_jax.data import load
from unet_jax.plan import planner, run_plan
from unet_jax.plan.fingerprint import take_fingerprint
from unet_jax.plan.plans import Plans

SHAPE = (24, 28, 32)
# Of a data set where something is ignored, so many voxels along the last axis.
UNLABELLED = 12
LABELS = {"background": 0, "shell": 1, "core": 2}


def write(
    root: Path,
    count: int = 6,
    shape: tuple[int, int, int] = SHAPE,
    *,
    labels: dict = LABELS,
    order: tuple[int, ...] | None = None,
) -> Path:
    """Volumes of 2 mm voxels; label 1 around label 2, which the image shows a little brighter.

    Args:
        root: the folder to make.
        count: of cases.
        shape: of each.
        labels: of dataset.json; with "ignore", nobody labelled the first voxels along the last axis.
        order: its regions_class_order, for regions.
    """
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        middle = rng.uniform(0.4, 0.6, 3) * shape
        distance = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(np.indices(shape), middle, strict=True)))
        mask = ((distance < 8).astype(np.uint8) + (distance < 5)).astype(np.uint8)
        image = (mask * 2 + rng.normal(0, 0.3, shape)).astype(np.float32)
        if "ignore" in labels:
            mask[..., :UNLABELLED] = labels["ignore"]
        affine = np.diag([2, 2, 2, 1])
        nibabel.save(nibabel.Nifti1Image(image, affine), root / "imagesTr" / f"ball_{number}_0000.nii.gz")
        nibabel.save(nibabel.Nifti1Image(mask, affine), root / "labelsTr" / f"ball_{number}.nii.gz")
    description = {
        "channel_names": {"0": "MRI"},
        "labels": labels,
        "numTraining": count,
        "file_ending": ".nii.gz",
        **({"regions_class_order": order} if order else {}),
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def narrowed(plans: Plans, width: int = 4) -> Plans:
    """The plan with networks of few channels."""
    configurations = {
        name: dataclasses.replace(
            each,
            batch_size=2,
            network=dataclasses.replace(
                each.network, features=tuple(min(width * 2**stage, 8) for stage, _ in enumerate(each.network.features))
            ),
        )
        for name, each in plans.configurations.items()
    }
    return dataclasses.replace(plans, configurations=configurations)


def tiny_plan(config: ConfigDict, memory_gb: float = 0.1) -> Plans:
    """nnU-Net's plan of the data, its networks narrowed."""
    data = load.load(config)
    dataset = run_plan.describe_data(data, Path("balls"))
    settings = planner.Settings(preset="default", memory_gb=memory_gb, spacing=None)
    return narrowed(planner.plan(take_fingerprint(data.cases, lambda case: case), dataset, settings))

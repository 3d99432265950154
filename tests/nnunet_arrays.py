"""How nnU-Net 2.8.1 preprocessed and exported; see tests/golden/make_nnunet_preprocessing.py."""

import functools
import json
from pathlib import Path

import numpy as np
from nnunet_answers import GOLDEN, data_set

from unet_jax.plan.plan_file import read_plans
from unet_jax.plan.plans import Plans


@functools.cache
def answers() -> dict:
    return json.loads((GOLDEN / "preprocessing.json").read_text())


@functools.cache
def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as found:
        return dict(found)


def part(array: np.ndarray) -> np.ndarray:
    """The voxels of an array [c, d, h, w] that the golden files keep."""
    return array[tuple(slice(*axis) for axis in answers()["part"])]


def write_plans(folder: Path, name: str) -> Path:
    """nnU-Net's plans of a data set as a file."""
    path = folder / f"{name}_plans.json"
    path.write_text(json.dumps(data_set(name)["plans"]["ExperimentPlanner"]))
    return path


def plans_of(folder: Path, name: str) -> Plans:
    return read_plans(write_plans(folder, name))

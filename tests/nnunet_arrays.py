"""How nnU-Net 2.8.1 preprocessed and exported; see tests/golden/make_nnunet_preprocessing.py."""

import functools
import json
from pathlib import Path

import numpy as np
from flax import nnx
from nnunet_answers import GOLDEN, data_set

from unet_jax.models.pretrained import torch_names
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


def state_of(params: dict, network: nnx.Module) -> dict[str, np.ndarray]:
    """Parameters of an NNUNet as nnU-Net's state dictionary, axis by axis the reverse of what takes them over."""
    state = {}
    modules = {"/".join(map(str, path)): module for path, module in nnx.iter_modules(network)}
    for name, path in torch_names.nnunet(network):
        tree = functools.reduce(lambda node, key: node[int(key) if key.isdigit() else key], path.split("/"), params)
        for key, array in tree.items():
            array = np.asarray(array)
            if key == "kernel" and isinstance(modules[path], nnx.ConvTranspose):
                array = np.flip(np.moveaxis(array, (-2, -1), (0, 1)), tuple(range(2, array.ndim)))
            elif key == "kernel":
                array = np.moveaxis(array, (-1, -2), (0, 1))
            state[f"{name}.{'bias' if key == 'bias' else 'weight'}"] = np.ascontiguousarray(array)
    return state


def write_plans(folder: Path, name: str) -> Path:
    """nnU-Net's plans of a data set as a file."""
    path = folder / f"{name}_plans.json"
    path.write_text(json.dumps(data_set(name)["plans"]["ExperimentPlanner"]))
    return path


def plans_of(folder: Path, name: str) -> Plans:
    return read_plans(write_plans(folder, name))

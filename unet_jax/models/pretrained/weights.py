"""Weights to start from: a folder with the arrays of a network, or of a part of one, and what they are of."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from unet_jax.errors import InputError
from unet_jax.files import write_json

WEIGHTS, MODEL = "weights.npz", "model.json"

FlatArrays = dict[tuple[str | int, ...], np.ndarray | jax.Array]


def save(folder: Path, params: dict, batch_stats: dict, description: Mapping[str, Any]) -> None:
    """Writes the arrays, by paths like "params/head/kernel", and `description`, the arguments of `build`.

    The arrays come last, and whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    arrays = {"/".join(map(str, path)): array for path, array in _flat(params, batch_stats).items()}
    unfinished = folder / f".{WEIGHTS}.{os.getpid()}"
    try:
        write_json(folder / MODEL, description)
        with open(unfinished, "wb") as file:
            np.savez(file, **arrays)
        os.replace(unfinished, folder / WEIGHTS)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}): name another folder.") from None


def load(folder: Path) -> tuple[dict, dict]:
    """(params, batch_stats) as `save` wrote them.

    Raises:
        InputError: they are missing or damaged; every array has a checksum.
    """
    path = folder / WEIGHTS
    try:
        with np.load(path, allow_pickle=False) as arrays:
            flat = {
                tuple(int(part) if part.isdigit() else part for part in key.split("/")): arrays[key]
                for key in arrays.files
            }
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): python -m unet_jax.models.pretrained.torch_weights makes it."
        ) from None
    except (ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}): make it again.") from None
    return _nested(flat)


def initialise(params: dict, batch_stats: dict, folder: Path) -> tuple[dict, dict]:
    """A network's (params, batch_stats), where the folder has arrays with those, else as they were.

    Raises:
        InputError: an array of the folder has no place in the network, or another shape; all are listed.
    """
    own, loaded = _flat(params, batch_stats), _flat(*load(folder))
    faults = []
    for path, array in loaded.items():
        needed = own[path].shape if path in own else "nothing"
        if array.shape != needed:
            faults.append(f"  {'/'.join(map(str, path))}: found {array.shape}, needed {needed}")
    if faults:
        raise InputError("\n".join([f"{folder / WEIGHTS} does not fit config.model; see {MODEL}:", *faults]))
    return _nested(own | loaded)


def _flat(params: dict, batch_stats: dict) -> FlatArrays:
    return flatten_dict({"params": params, "batch_stats": batch_stats})


def _nested(flat: FlatArrays) -> tuple[dict, dict]:
    tree = unflatten_dict(flat)
    return tree.get("params", {}), tree.get("batch_stats", {})

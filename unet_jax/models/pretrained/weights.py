"""A folder of weights to start from: the arrays of a network or of a part of one, and which network that is."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from unet_jax.errors import InputError
from unet_jax.files import write_bytes, write_json

WEIGHTS, MODEL = "weights.npz", "model.json"

FlatArrays = dict[tuple[str | int, ...], np.ndarray | jax.Array]


def save(folder: Path, params: dict, batch_stats: dict, description: Mapping[str, Any]) -> None:
    """Writes the arrays, by paths like "params/head/kernel", and `description`, the arguments of `build`.

    The arrays are written last, and completely or not at all.

    Raises:
        InputError: the folder cannot be written.
        StorageError: the disk is full, read-only or failing.
    """
    arrays = {"/".join(map(str, path)): array for path, array in _flat(params, batch_stats).items()}
    file = io.BytesIO()
    np.savez(file, **arrays)
    try:
        write_json(folder / MODEL, description)
        write_bytes(folder / WEIGHTS, file.getvalue())
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}): name another folder.") from None


def load(folder: Path) -> tuple[dict, dict]:
    """(params, batch_stats) as `save` wrote them.

    Raises:
        InputError: they are missing or damaged, which each array's checksum shows.
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
        raise InputError(f"{path} is damaged ({error}): convert it again.") from None
    return _nested(flat)


def initialise(params: dict, batch_stats: dict, folder: Path) -> tuple[dict, dict]:
    """A network's (params, batch_stats), with those arrays replaced that the folder has.

    Raises:
        InputError: the folder cannot be read, or has arrays that the network does not have or has in another shape; all
            of those are listed.
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

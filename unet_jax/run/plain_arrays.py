"""The arrays of a checkpoint as .npy files, one each: what a pack has in the place of orbax's files."""

import io
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unet_jax.errors import InputError
from unet_jax.run import manifest

# The folder of an item's arrays is called <item>.arrays.
SUFFIX = ".arrays"


def encode(name: str, tree: Any) -> dict[str, bytes]:
    """The files of an item of a checkpoint, by their paths within the checkpoint's folder.

    Args:
        name: of the item, such as "model".
        tree: of arrays.
    """
    return {
        f"{name}{SUFFIX}/{leaf}.npy": _npy(np.asarray(array)) for leaf, array in manifest.named_leaves(tree).items()
    }


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def read(folder: Path, like: Any) -> Any:
    """The arrays of the tree `like`, of its shapes, types and shardings.

    Only files that `like` names are opened, and nothing is allocated by what a file says of itself.

    Raises:
        InputError: a file is missing, or holds something else.
    """
    leaves, structure = jax.tree.flatten(like)
    names = manifest.named_leaves(like)
    arrays = [_read(folder / f"{name}.npy", leaf) for name, leaf in zip(names, leaves, strict=True)]
    return jax.tree.unflatten(structure, arrays)


def _read(path: Path, like: jax.ShapeDtypeStruct) -> jax.Array:
    try:
        # Mapped, a file that is shorter than it claims is refused.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not an array ({error}): copy the pack again.") from None
    if (array.shape, array.dtype) != (like.shape, like.dtype):
        raise InputError(
            f"{path} is {array.dtype} {array.shape}, and {like.dtype} {like.shape} is needed: copy the pack again."
        )
    return jax.device_put(np.array(array), like.sharding)

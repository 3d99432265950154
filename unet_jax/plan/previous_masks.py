"""The masks that the second network of a cascade is trained with: those of the first, of folds that never saw the case.

They lie on the second one's grid, a file a case, which patches are cut from as from preprocessed cases.
"""

import dataclasses
import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int16, Integer

from unet_jax.data.splits import names_of
from unet_jax.errors import InputError
from unet_jax.files import read_json, replace_folder, write_bytes, write_sealed_json
from unet_jax.plan.cutting import Places, cut
from unet_jax.plan.resample import Shape

INDEX = "index.json"


@dataclasses.dataclass(frozen=True)
class PreviousMask:
    """The first network's mask of a case, on disk. It keeps nothing open, as `PreparedCase` does.

    Attributes:
        path: where it is.
        labels: that have a channel each, without the background.
    """

    path: Path
    labels: tuple[int, ...]

    @property
    def mask(self) -> Integer[np.ndarray, "d h w"]:
        """Labels; a read-only memory map."""
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    def cut(self, begin: Places, size: Places) -> Int16[np.ndarray, "d h w"]:
        """The labels of a patch, 0 beyond the case's edges."""
        return cut(self.mask, begin, size, 0).astype(np.int16)

    def channels(self) -> Float32[np.ndarray, "d h w k"]:
        """Of the whole case: 1 where the mask has a label, 0 elsewhere."""
        return np.stack([self.mask == label for label in self.labels], axis=-1).astype(np.float32)


def write(folder: Path, masks: Iterable[tuple[str, Integer[np.ndarray, "_ _ _"]]], origin: str) -> None:
    """Writes the masks of some cases as a folder, which is there as a whole or not at all.

    Args:
        folder: its name.
        masks: names of cases, and their masks on the second network's grid; drawn one by one.
        origin: what tells the networks that made them from others.

    Raises:
        StorageError: the disk is full, read-only or failing.
    """
    with replace_folder(folder) as unfinished:
        index = {}
        for number, (name, mask) in enumerate(masks):
            file = io.BytesIO()
            np.save(file, mask, allow_pickle=False)
            digest = hashlib.sha256(file.getvalue()).hexdigest()
            index[name] = {"file": f"{number:06d}.npy", "shape": list(mask.shape), "digest": digest}
            write_bytes(unfinished / index[name]["file"], file.getvalue())
        write_sealed_json(unfinished / INDEX, {"origin": origin, "cases": index})


def is_there(folder: Path, origin: str) -> bool:
    """Whether `write` has made the folder, with masks of the same origin; damage is for `read` to find."""
    return (folder / INDEX).exists() and read_json(folder / INDEX)["origin"] == origin


def read(folder: Path, shapes: Mapping[str, Shape], labels: tuple[int, ...]) -> dict[str, PreviousMask]:
    """The masks of cases by their names, from all folders of `write` that lie in `folder`, verified.

    Args:
        folder: with a folder for each fold of the first network.
        shapes: of the cases that are wanted, preprocessed for the second network.
        labels: of the data set, without the background.

    Raises:
        InputError: a case has no mask, or one that is damaged or of another shape; all are named.
    """
    found = {}
    for index in sorted(folder.glob(f"*/{INDEX}")):
        for name, entry in read_json(index)["cases"].items():
            found[name] = index.parent / entry["file"], tuple(entry["shape"]), entry["digest"]
    missing = [name for name in shapes if name not in found]
    others = [name for name, shape in shapes.items() if name in found and found[name][1] != tuple(shape)]
    damaged = [name for name in shapes if name in found and not _is_whole(found[name][0], found[name][2])]
    faults = [
        f"{folder}: {complaint}: {names_of(names)}: remove the folder, and train the cascade again: its masks are made "
        "again."
        for complaint, names in (
            ("these cases have no mask of the first stage", missing),
            ("these cases have masks of another shape", others),
            ("the masks of these cases are damaged", damaged),
        )
        if names
    ]
    if faults:
        raise InputError("\n".join(faults))
    return {name: PreviousMask(found[name][0], labels) for name in shapes}


def _is_whole(path: Path, digest: str) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest

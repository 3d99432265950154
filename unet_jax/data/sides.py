"""What people call the sides of a split, in tables and as folders."""

from collections.abc import Mapping
from pathlib import Path

from unet_jax.data.listing import folders
from unet_jax.data.names import shown
from unet_jax.errors import InputError

NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def side_named(text: str) -> str | None:
    """The side that a word means, in whatever capital letters; None where it means none."""
    return next((side for side, names in NAMES.items() if text.strip().casefold() in names), None)


def side_folders(root: Path) -> Mapping[str, Path]:
    """The folders of `root` that are called like sides, by side, as paths from `root`.

    Empty unless one is the training side and there is another.

    Raises:
        InputError: two folders are called like the same side, or `root` cannot be read.
    """
    found: dict[str, Path] = {}
    for folder in folders(root):
        side = side_named(folder.name)
        if side in found:
            raise InputError(
                f"{root}: holds {shown(found[side])} and {shown(folder)}, and each could be the {side} side: rename or "
                "remove one of them."
            )
        if side is not None:
            found[side] = folder
    return {side: found[side] for side in NAMES if side in found} if "train" in found and len(found) > 1 else {}

"""What lies in a folder that nobody knows the layout of, in a few words."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from unet_jax.data.listing import has_suffix
from unet_jax.data.names import shown
from unet_jax.wording import count

# A folder is described by so many of its parts.
SHOWN = 6


def described(paths: Sequence[Path]) -> str:
    """The files by folder, suffix and the end of their names, such as "20 .jpg in CHASEDB1 (Image_01L.jpg, …)"."""
    groups: dict[tuple[Path, str, str], list[Path]] = defaultdict(list)
    for path in paths:
        groups[path.parent, ending(path), mark(path)].append(path)
    parts = [
        f"{_number(len(files), suffix)} in {'it' if folder == Path() else shown(folder)}"
        f" ({shown(files[0].name)}{', …' if len(files) > 1 else ''})"
        for (folder, suffix, _), files in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    more = f" and {len(parts) - SHOWN:,} more kinds" if len(parts) > SHOWN else ""
    return ", ".join(parts[:SHOWN]) + more if parts else "nothing"


def _number(files: int, suffix: str) -> str:
    return f"{files:,} {suffix}" if suffix else count(files, "file without suffix", "files without suffix")


def ending(path: Path) -> str:
    """The suffix, which for .nii.gz has two dots."""
    return "".join(path.suffixes[-2:]) if has_suffix(path, [".nii.gz"]) else path.suffix


def stem(path: Path) -> str:
    """The name without `ending`."""
    return path.name.removesuffix(ending(path))


def mark(path: Path) -> str:
    """The word at the end of a name that tells what a file is, such as "_mask"; empty where there is none."""
    found = re.search(r"[ ._-][A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*$", stem(path))
    return found[0] if found else ""

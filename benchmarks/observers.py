"""How well the second observer of CHASE_DB1 agrees with the first: what a network is compared with.

    python -m benchmarks.observers data/CHASEDB1

Prints the Dice of each photograph, and the mean over children, both photographs of each as one, as patients are scored.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int64, UInt8

from unet_jax import metrics
from unet_jax.metrics.statistics import distribution

FIRST, SECOND = "_1stHO.png", "_2ndHO.png"


def counts_by_picture(root: Path) -> dict[str, Int64[np.ndarray, "3"]]:
    """True and false positive and false negative pixels of the second observer, by the photograph's name."""
    names = sorted(path.name.removesuffix(FIRST) for path in root.glob(f"*{FIRST}"))

    def drawn(name: str, end: str) -> UInt8[np.ndarray, "1 h w"]:
        return (cv2.imread(str(root / f"{name}{end}"), cv2.IMREAD_GRAYSCALE)[None] > 0).astype(np.uint8)

    return {name: metrics.count(drawn(name, SECOND), drawn(name, FIRST))[0] for name in names}


def dice_by_child(counts: Mapping[str, Int64[np.ndarray, "3"]]) -> dict[str, float | None]:
    """The Dice over all photographs of a child, by the number in their names."""
    children = {name: re.search(r"\d+", name).group() for name in counts}
    return {
        child: metrics.dice(sum(counts[name] for name in counts if children[name] == child))
        for child in sorted(set(children.values()))
    }


def main() -> None:
    """Compares the observers in the folder that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("Name the folder of the data set: python -m benchmarks.observers FOLDER")
    counts = counts_by_picture(Path(sys.argv[1]))
    if not counts:
        raise SystemExit(f"{sys.argv[1]} holds no file *{FIRST}: name the folder CHASEDB1 of the data set.")
    for name, of_picture in counts.items():
        print(f"{name}  {metrics.dice(of_picture):.3f}")
    children = dice_by_child(counts)
    found = distribution(children.values())
    low, high = found["ci95"]
    print(f"mean of {len(children)} children  {found['mean']:.3f} (95 % {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()

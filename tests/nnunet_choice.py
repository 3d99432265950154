"""How nnU-Net 2.8.1 scored, post-processed and split; see tests/golden/make_nnunet_choice.py."""

import functools
import json

import numpy as np
from nnunet_answers import GOLDEN

CASES = ("c0", "c1", "c2", "c3")


@functools.cache
def answers() -> dict:
    return json.loads((GOLDEN / "choice.json").read_text())


@functools.cache
def masks(kind: str) -> list[np.ndarray]:
    """Of the four cases: "ref", "pred" or "postprocessed"."""
    with np.load(GOLDEN / "choice.npz") as found:
        return [found[f"{kind}_{name}"] for name in CASES]

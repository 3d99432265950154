"""State dictionaries of PyTorch, with an image and the logits they give for it: see make_torch_weights.py."""

from typing import NamedTuple

import numpy as np

import golden


class Golden(NamedTuple):
    state: dict[str, np.ndarray]
    image: np.ndarray
    logits: np.ndarray


def load(name: str) -> Golden:
    arrays = golden.load(name)
    state = {key.removeprefix("state/"): x for key, x in arrays.items() if key.startswith("state/")}
    return Golden(state, arrays["image"], arrays["logits"])

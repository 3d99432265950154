"""State dictionaries of PyTorch, with an image and the logits they give for it: see make_torch_weights.py."""

from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

import golden
from unet_jax.models import build
from unet_jax.models.functional import split_model


class Golden(NamedTuple):
    state: dict[str, np.ndarray]
    image: np.ndarray
    logits: np.ndarray


def load(name: str) -> Golden:
    arrays = golden.load(name)
    state = {key.removeprefix("state/"): x for key, x in arrays.items() if key.startswith("state/")}
    return Golden(state, arrays["image"], arrays["logits"])


def check(name: str, options: dict, weights: tuple[dict, dict], expected: Golden) -> None:
    """Asserts that `weights` are all that the network has, and that they give it the expected logits."""
    channels, classes = expected.image.shape[-1], expected.logits.shape[-1]
    # from shapes alone: compiling the initialisers takes longer than the rest
    model = nnx.eval_shape(lambda: build(name, channels, classes, nnx.Rngs(0), **options))
    model = nnx.view(model, use_running_average=True, raise_if_not_found=False)
    graphdef, *like = split_model(model)
    assert jax.tree.map(_kind, tuple(like)) == jax.tree.map(_kind, weights)
    logits = jax.jit(lambda weights, image: nnx.merge(graphdef, *weights)(image))(weights, expected.image)
    np.testing.assert_allclose(logits, expected.logits, rtol=0, atol=1e-4)


def _kind(array) -> tuple:
    return array.shape, array.dtype

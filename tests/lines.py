"""Networks small enough to work out by hand: their logits are a line through the first sequence's intensity."""

import jax.numpy as jnp
import numpy as np
from flax import nnx


class Line(nnx.Module):
    """Logits of one class."""

    def __init__(self, slope=2.0, offset=-0.5):
        self.slope, self.offset = nnx.Param(jnp.float32(slope)), nnx.Param(jnp.float32(offset))

    def __call__(self, image):
        return self.slope[...] * image[..., :1] + self.offset[...]


class Lines(Line):
    """Logits of background, which are 0, and of two classes, one line the other's opposite."""

    def __call__(self, image):
        line = super().__call__(image)
        return jnp.concatenate([jnp.zeros_like(line), line, -line], -1)


class Normalised(nnx.Module):
    """Logits that are the first sequence's intensity, batch-normalised."""

    def __init__(self):
        self.norm = nnx.BatchNorm(1, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(0))

    def __call__(self, image):
        return self.norm(image[..., :1])


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Probabilities of `Line`'s logits."""
    return 1 / (1 + np.exp(-z))


def softmax(z: np.ndarray) -> np.ndarray:
    """Probabilities of `Lines`' logits, the classes first."""
    exponentials = np.exp([np.zeros_like(z), z, -z])
    return exponentials / exponentials.sum(0)

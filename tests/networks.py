"""Networks for the tests: with random weights, and quick to make."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from unet_jax import models
from unet_jax.models.layers import LayerOptions


def make(name: str, in_channels: int = 1, num_classes: int = 2, **options) -> nnx.Module:
    """The network with weights from numpy: compiling its own initialisers takes longer than the tests."""
    random = np.random.default_rng(0)

    def draw(path: tuple, like: jax.ShapeDtypeStruct) -> jax.Array:
        value = random.standard_normal(like.shape)
        match path[-1].key:
            case "kernel":
                value *= np.sqrt(2 / np.prod(like.shape[:-1]))
            case "scale" | "var":
                value = 1 + np.abs(value) / 2
            case _:
                value /= 5
        return jnp.asarray(value, like.dtype)

    model = nnx.eval_shape(lambda: models.build(name, in_channels, num_classes, nnx.Rngs(0), **options))
    graphdef, state = nnx.split(model)
    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(draw, nnx.to_pure_dict(state)))


def image(*shape: int) -> jax.Array:
    """Standard normal intensities, [b, *spatial, c]."""
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)


def check_gradients(gradients: dict[str, jax.Array]) -> None:
    """Asserts that every parameter, by its path, has a gradient, but for those that can have none.

    Instance normalisation takes the mean away, and with it the bias of the convolution before.
    """
    for path, gradient in gradients.items():
        assert jnp.isfinite(gradient).all(), path
        without = path.endswith("conv/bias")
        assert (jnp.abs(gradient).max() < 1e-5) == without, path


def layer_options(rank: int = 2, dtype: DTypeLike = jnp.float32, init: str = "torch", seed: int = 0) -> LayerOptions:
    """The options that a network gives its layers."""
    return LayerOptions(rank, dtype, nnx.Rngs(seed), init)

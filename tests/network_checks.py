"""What every network is held to, for networks given by their name and options.

Networks are made from shapes alone, and filled: initialising one takes longer than running it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from golden.state_dicts import Golden

from unet_jax.models import build
from unet_jax.steps import split_model


def gives_the_logits(name: str, options: dict, weights: tuple[dict, dict], expected: Golden) -> None:
    """Asserts that `weights` are all that the network has, and that they give it the expected logits."""
    channels, classes = expected.image.shape[-1], expected.logits.shape[-1]
    model = nnx.eval_shape(lambda: build(name, channels, classes, nnx.Rngs(0), **options))
    model = nnx.view(model, use_running_average=True, raise_if_not_found=False)
    graphdef, *like = split_model(model)
    assert jax.tree.map(_kind, tuple(like)) == jax.tree.map(_kind, weights)
    logits = jax.jit(lambda weights, image: nnx.merge(graphdef, *weights)(image))(weights, expected.image)
    np.testing.assert_allclose(logits, expected.logits, rtol=0, atol=1e-4)


def every_parameter_has_a_gradient(name: str, options: dict, size: tuple[int, ...]) -> None:
    """Asserts so for the sum of the squared logits of two images in training, with random weights."""
    model = nnx.eval_shape(lambda: build(name, 1, 2, nnx.Rngs(0), **options))
    graphdef, params, stats = split_model(model)
    random = np.random.default_rng(0)

    def draw(leaf) -> np.ndarray:
        scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5 if len(leaf.shape) > 1 else 0.5
        return (scale * random.normal(size=leaf.shape)).astype(np.float32)

    def loss(params, stats):
        return jnp.sum(nnx.merge(graphdef, params, stats)(image) ** 2)

    image = jnp.asarray(random.normal(size=(2, *size, 1)), jnp.float32)
    params, stats = jax.tree.map(draw, (params, stats))
    fast_to_compile = {"xla_backend_optimization_level": 0}
    gradients = jax.jit(jax.grad(loss), compiler_options=fast_to_compile)(params, stats)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert jnp.isfinite(gradient).all(), path
        assert jnp.abs(gradient).max() > 1e-4, path


def logits_shape(name: str, options: dict, image: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the logits, of 3 classes, for images of the shape `image`, [b, *spatial, c]."""
    rank = len(image) - 2
    model = nnx.eval_shape(lambda: build(name, image[-1], 3, nnx.Rngs(0), rank=rank, **options))
    return nnx.eval_shape(lambda model, image: model(image), model, jnp.zeros(image)).shape


def _kind(array) -> tuple:
    return array.shape, array.dtype

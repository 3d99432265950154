import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.losses import total_loss
from unet_jax.training import accumulate

RNG = np.random.default_rng(0)
IMAGE = jnp.asarray(RNG.normal(size=(6, 4, 4, 2)), jnp.float32)
MASK = jnp.asarray(RNG.random((6, 4, 4, 1)) < 0.3, jnp.float32)
WEIGHTS = jnp.asarray(RNG.random((6, 4, 4, 1)), jnp.float32)
PARAMS = {"kernel": jnp.array([[0.5], [-1.0]]), "offset": jnp.array(0.1)}
EACH, POOLED = {"bce": 1.0, "dice": {"per_sample": True}}, {"bce": 1.0, "dice": 1.0}


def network(params, image, key):
    """Two resolutions, not linear in the parameters."""
    logits = jnp.tanh(image @ params["kernel"] + params["offset"])
    return logits, logits[:, ::2, ::2]


def whole_batch(loss_of, targets):
    def loss_and_logits(params):
        levels = network(params, IMAGE, None)
        return loss_of(levels, *targets), levels[0]

    (loss, logits), gradient = jax.value_and_grad(loss_and_logits, has_aux=True)(PARAMS)
    return loss, logits, gradient


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize(
    ("weights", "targets", "whole"),
    [
        (EACH, (MASK, None), False),
        (EACH, (MASK, None), True),
        (POOLED, (MASK, None), True),
        (POOLED, (MASK, WEIGHTS), True),
    ],
    ids=["each sample", "each sample, in two passes", "over the batch", "with pixel weights"],
)
def test_loss_logits_and_gradient_of_parts_are_those_of_the_batch(count, weights, targets, whole):
    def loss_of(levels, mask, pixels):
        half = None if pixels is None else pixels[:, ::2, ::2]
        return total_loss(levels[0], mask, weights, pixels) + total_loss(levels[1], mask[:, ::2, ::2], weights, half)

    found = accumulate.loss_and_gradient(
        network, loss_of, PARAMS, IMAGE, targets, jax.random.key(0), count, whole=whole
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-7), found, whole_batch(loss_of, targets)
    )


def test_both_passes_of_a_part_have_the_same_dropout_and_each_part_its_own():
    """The loss is Σ of squares over two samples; its gradient is right only if masks are the same in both passes."""
    image, key = jnp.ones((2, 4)), jax.random.key(3)

    def dropped(params, image, key):
        return (params["factor"] * image * jax.random.bernoulli(key, 0.5, image.shape),)

    loss, logits, gradient = accumulate.loss_and_gradient(
        dropped, lambda levels: (levels[0] ** 2).sum(), {"factor": jnp.float32(3)}, image, (), key, 2, whole=True
    )
    kept = int((logits != 0).sum())
    assert (float(loss), float(gradient["factor"])) == (9.0 * kept, 6.0 * kept)
    assert (logits[0] != logits[1]).any()

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unet_jax import models
from unet_jax.errors import InputError
from unet_jax.models.functional import plain, split_model

IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 1)), jnp.float32)
NETWORKS = {
    "tutorial": {"width": 4, "depth": 2, "norm": "batch", "up": "transposed"},
    "nnunet": {"features": (4, 8), "blocks": 1, "decoder_blocks": 1, "residual": True},
}


def gradient_of(model):
    """(params, batch_stats) → ((loss, statistics), gradient), lowered."""
    graphdef, *state = split_model(model)

    def loss_of(params, batch_stats):
        model = nnx.merge(graphdef, params, batch_stats)
        return (model(IMAGE) ** 2).mean(), plain(nnx.state(model, nnx.BatchStat))

    return jax.jit(jax.value_and_grad(loss_of, has_aux=True)).lower(*state)


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputed_features_give_the_same_loss_gradient_and_statistics_in_less_memory(name):
    found, memory = [], []
    for levels in (0, 2):
        model = models.build(name, 1, 1, nnx.Rngs(params=0), remat=levels, **NETWORKS[name])
        compiled = gradient_of(model).compile()
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
        found.append(compiled(*split_model(model)[1:]))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), *found)
    assert memory[1] < memory[0]


@pytest.mark.parametrize(
    ("name", "levels", "convolutions"),
    # Of each level: those of its block on the way down and, but for the coarsest, of that on the way up. Of a residual
    # block, the 1×1 one of the skip is a matrix product, and not counted.
    [("tutorial", 1, 2 + 2), ("tutorial", 2, 2 + 2 + 2), ("nnunet", 1, 3 + 1), ("nnunet", 2, 3 + 1 + 2)],
)
def test_levels_are_counted_from_the_finest_and_prediction_recomputes_none(name, levels, convolutions):
    training, predicting = [], []
    for again in (0, levels):
        model = models.build(name, 1, 1, nnx.Rngs(params=0), remat=again, **NETWORKS[name])
        training.append(gradient_of(model).as_text().count("@unet_jax_convolution"))
        view = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
        graphdef, *state = split_model(view)
        predicting.append(
            str(jax.make_jaxpr(lambda *state, structure=graphdef: nnx.merge(structure, *state)(IMAGE))(*state))
        )
    assert training[1] - training[0] == convolutions
    assert predicting[1] == predicting[0]


def test_a_number_of_levels_below_0_is_refused():
    with pytest.raises(InputError, match=r"remat is -1; it must be 0, or a number of levels"):
        models.build("nnunet", 1, 1, nnx.Rngs(params=0), features=(4, 8), remat=-1)

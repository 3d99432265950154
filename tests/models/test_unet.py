import golden
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from flax import nnx

from unet_jax.errors import InputError
from unet_jax.models import build, input_size_for
from unet_jax.models.functional import split_model

ATTENTION = {
    "width": 3,
    "depth": 3,
    "norm": "group",
    "activation": "leaky_relu",
    "up": "nearest",
    "attention": True,
    "deep_supervision": True,
    "rank": 3,
}


def small(**options) -> nnx.Module:
    return networks.make("tutorial", **{"width": 2, "depth": 2} | options)


def test_tutorial_equals_pytorch():
    golden.check("tutorial", "tutorial", tolerance=1e-5, width=4)


def test_unet2015_equals_pytorch():
    golden.check("unet2015", "unet2015", tolerance=1e-4, width=4, depth=3)


def test_buda2019_equals_pytorch():
    golden.check("buda2019", "buda2019", tolerance=1e-4, width=2)


def test_attention_and_deep_supervision_equal_pytorch():
    golden.check("attention", "tutorial", tolerance=1e-4, training=True, **ATTENTION)


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [({}, (572, 572), (388, 388)), ({}, (188, 204), (4, 20)), ({"padding": "same"}, (64, 32), (64, 32))],
)
def test_size_of_the_2015_papers_logits(options, size, expected):
    model = nnx.eval_shape(lambda: build("unet2015", 1, 2, nnx.Rngs(0), width=1, **options))
    model = nnx.view(model, deterministic=True)
    graphdef, params, batch_stats = split_model(model)
    image = jax.ShapeDtypeStruct((1, *size, 1), jnp.float32)
    logits = jax.eval_shape(lambda params, image: nnx.merge(graphdef, params, batch_stats)(image), params, image)
    assert logits.shape == (1, *expected, 2)
    assert input_size_for(expected, model.divisor, model.margin) == size


def test_valid_logits_see_the_margin_around_them_and_no_more():
    model = small(padding="valid")
    assert model.margin == 8
    image = networks.image(1, 24, 24, 1)
    corner = jax.jit(jax.grad(lambda image: model(image)[0, 0, 0].sum()))
    influence = np.abs(corner(image)[0, ..., 0])
    # the first logit is pixel 8's; the pooling's blocks round what it sees up to the next even number
    assert influence[0].max() > 0
    assert influence[16].max() > 0
    assert not influence[18:].any()


def test_the_2015_papers_initialisation():
    model = build("unet2015", 3, 1, nnx.Rngs(0), width=8, depth=2)
    kernel = model.decoder[0].conv1.kernel[...]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 16)), rtol=0.1)
    assert not model.decoder[0].conv1.bias[...].any()


def test_batch_statistics_move_towards_the_batch():
    model = small(norm="batch", depth=1)
    image = networks.image(2, 8, 8, 1)
    norm = model.encoder[0].norm1
    features = np.asarray(model.encoder[0].conv1(image))
    old_mean, old_var = norm.mean[...], norm.var[...]
    model(image)
    np.testing.assert_allclose(norm.mean[...], 0.9 * old_mean + 0.1 * features.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(norm.var[...], 0.9 * old_var + 0.1 * features.var((0, 1, 2)), atol=1e-6)


def test_deep_supervision_gives_every_level_in_training_only():
    model = small(depth=3, deep_supervision=True)
    view = nnx.view(model, deterministic=True)
    both = jax.jit(lambda image: (model(image), view(image)))
    outputs, logits = both(networks.image(1, 8, 4, 1))
    assert [each.shape for each in outputs] == [(1, 8, 4, 2), (1, 4, 2, 2)]
    assert jnp.array_equal(logits, outputs[0])


def run_with_dropout(graphdef: nnx.GraphDef, params: dict, batch_stats: dict, **view) -> tuple:
    """What the encoder's levels and the head give, as a training step calls them: split once, merged inside."""
    model = nnx.view(nnx.merge(graphdef, params, batch_stats), **view)
    image = networks.image(2, 16, 16, 1)
    return model._encode(image, 0), model(image)


def test_dropout_is_a_function_of_its_key():
    parts = split_model(small(depth=3, dropout=0.25))
    assert not parts[2]
    run = jax.jit(lambda key: run_with_dropout(*parts, dropout_key=key))
    (levels, first), (_, again), (_, other) = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    plain, logits = jax.jit(lambda: run_with_dropout(*parts, deterministic=True))()

    assert jnp.array_equal(first, again)
    assert jnp.abs(first - other).max() > 0.01
    assert jnp.abs(first - logits).max() > 0.01
    # the last two levels, each by itself: a quarter of the values gone, the others 4/3 of what they were
    assert jnp.array_equal(levels[0], plain[0])
    assert not jnp.array_equal(levels[1], plain[1])
    x = np.asarray(plain[1])
    kept = np.asarray(levels[1])[x > 0] != 0
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(np.asarray(levels[1])[x > 0][kept], x[x > 0][kept] * 4 / 3, rtol=1e-5)


def test_dropout_without_a_key_is_told_how_to_get_one():
    with pytest.raises(ValueError, match="dropout_key=key"):
        small(dropout=0.5)(networks.image(1, 4, 4, 1))


def test_size_must_divide():
    with pytest.raises(InputError, match=r"\(12, 16\).*divide by 8.*\(8, 16\) or \(16, 16\)"):
        small(depth=4)(jnp.zeros((1, 12, 16, 1)))


def test_size_must_leave_room_for_the_margin():
    with pytest.raises(InputError, match=r"\(20, 21\).*less 8 must divide by 2: use \(20, 20\) or \(20, 22\)"):
        small(padding="valid")(jnp.zeros((1, 20, 21, 1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 4}, r"rank is 4"),
        ({"width": 0}, r"width is 0"),
        ({"depth": 0}, r".*depth 0"),
        ({"norm": "layer"}, r"norm is 'layer'"),
        ({"activation": "tanh"}, r"activation is 'tanh'"),
        ({"up": "cubic"}, r"up is 'cubic'"),
        ({"padding": "full"}, r"padding is 'full'"),
        ({"init": "zero"}, r"init is 'zero'"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
        ({"padding": "valid", "deep_supervision": True}, "deep_supervision goes with no padding"),
    ],
)
def test_an_argument_out_of_range_is_named(options, message):
    with pytest.raises(InputError, match=message):
        small(**options)

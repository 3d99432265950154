import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unet_jax.errors import InputError
from unet_jax.models import layers


def settings() -> dict:
    return {"rngs": nnx.Rngs(0), "dtype": jnp.float32}


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def blocks(x: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """[b, *spatial, c] as [b, *spatial // block, samples of a block, c], by a loop over the blocks."""
    counts = [n // by for n, by in zip(x.shape[1:-1], block, strict=True)]
    found = np.empty((len(x), *counts, np.prod(block), x.shape[-1]), x.dtype)
    for at in np.ndindex(*counts):
        part = x[(slice(None), *(slice(i * by, (i + 1) * by) for i, by in zip(at, block, strict=True)))]
        found[(slice(None), *at)] = part.reshape(len(x), -1, x.shape[-1])
    return found


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 2, 4, 6, 2)])
def test_max_pool_is_the_largest_of_each_block(shape):
    x = random(*shape)
    expected = blocks(x, (2,) * (x.ndim - 2)).max(-2)
    np.testing.assert_array_equal(layers.max_pool(jnp.asarray(x)), expected)


def test_the_gradient_of_max_pool_goes_to_the_first_of_the_largest():
    x = jnp.array([[3.0, 3.0, 0.0, 1.0], [3.0, 2.0, 2.0, 2.0]])[None, ..., None]
    gradient = jax.grad(lambda x: (layers.max_pool(x) * jnp.array([5.0, 7.0])[:, None]).sum())(x)[0, ..., 0]
    np.testing.assert_array_equal(gradient, [[5, 0, 0, 0], [0, 0, 7, 0]])


def test_max_pool_hides_no_nan():
    for position in range(4):
        x = jnp.zeros(4).at[position].set(jnp.nan).reshape(1, 2, 2, 1)
        assert jnp.isnan(layers.max_pool(x)).all()


@pytest.mark.parametrize("block", [(1, 2, 2), (2, 2, 3), (1, 1, 1)])
def test_average_pool_is_the_mean_of_each_block(block):
    x = random(2, 2, 4, 6, 3)
    found = layers.average_pool(jnp.asarray(x), block)
    np.testing.assert_allclose(found, blocks(x, block).mean(-2), atol=1e-6)


def test_crop_keeps_the_middle():
    x = jnp.arange(8.0)[:, None] * 10 + jnp.arange(5.0)
    np.testing.assert_array_equal(layers.crop(x[None, ..., None], (2, 2))[0, ..., 0], [[31, 32], [41, 42]])


@pytest.mark.parametrize(("kernel", "rank", "fan_in"), [(3, 2, 45), (1, 2, 5), ((1, 3, 5), 3, 75)])
def test_torch_init_is_uniform_within_one_over_the_root_of_the_inputs(kernel, rank, fan_in):
    conv = layers.conv(5, 200, kernel=kernel, rank=rank, **settings())
    for parameter in (conv.kernel[...], conv.bias[...]):
        assert 0.98 < jnp.abs(parameter).max() * np.sqrt(fan_in) <= 1
    # the variance of U(-b, b) is b²/3
    np.testing.assert_allclose(conv.kernel[...].std(), np.sqrt(1 / (3 * fan_in)), rtol=0.05)


def test_torch_init_of_a_transposed_convolution_goes_by_its_outputs():
    conv = layers.conv_transposed(50, 20, stride=(2, 2), **settings())
    assert conv.kernel[...].shape == (2, 2, 50, 20)
    assert 0.98 < jnp.abs(conv.kernel[...]).max() * np.sqrt(20 * 4) <= 1


def test_he_init_is_normal_with_a_variance_of_two_over_the_inputs():
    conv = layers.conv(20, 50, kernel=3, rank=2, init="he", **settings())
    transposed = layers.conv_transposed(50, 20, stride=(2, 2), init="he", **settings())
    for layer, inputs in ((conv, 20 * 9), (transposed, 50)):
        kernel = np.asarray(layer.kernel[...]) * np.sqrt(inputs / 2)
        assert not layer.bias[...].any()
        np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, 1], atol=0.03)
        np.testing.assert_allclose((np.abs(kernel) < 1).mean(), 0.683, atol=0.02)


def test_he_init_keeps_the_mean_square_from_layer_to_layer():
    x = jnp.asarray(random(1, 16, 16, 64))
    for seed in range(3):
        conv = layers.conv(64, 64, kernel=3, rank=2, init="he", rngs=nnx.Rngs(seed), dtype=jnp.float32)
        x = conv(jax.nn.relu(x))
    assert 0.6 < jnp.mean(x[:, 4:-4, 4:-4] ** 2) < 1.6


def test_conv_is_centred_whatever_its_stride():
    x = jnp.zeros((1, 6, 6, 1)).at[0, 2, 4, 0].set(1.0)
    conv = layers.conv(1, 1, kernel=3, stride=2, rank=2, **settings())
    y = conv(x) - conv.bias[...]
    assert y.shape == (1, 3, 3, 1)
    np.testing.assert_allclose(y[0, 1, 2, 0], conv.kernel[...][1, 1, 0, 0], atol=1e-7)


def test_valid_padding_pads_nothing():
    conv = layers.conv(1, 1, kernel=3, rank=2, padding="valid", **settings())
    x = jnp.asarray(random(1, 3, 3, 1))
    expected = (x * conv.kernel[...][None, ..., 0]).sum() + conv.bias[...]
    np.testing.assert_allclose(conv(x)[0, 0, 0], expected, rtol=1e-5)


def test_conv_transposed_makes_each_sample_a_block():
    conv = layers.conv_transposed(1, 1, stride=(2, 2), **settings())
    one = jnp.zeros((1, 2, 2, 1)).at[0, 1, 0, 0].set(1.0)
    found = (conv(one) - conv.bias[...])[0, :, :, 0]
    expected = jnp.zeros((4, 4)).at[2:, :2].set(conv.kernel[...][::-1, ::-1, 0, 0])
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(("name", "axes"), [("batch", (0, 1, 2)), ("instance", (1, 2)), ("group", (1, 2, 4))])
def test_normalisation_gives_mean_0_and_variance_1(name, axes):
    x = jnp.asarray(3 * random(2, 8, 6, 64) + 5)
    norm = layers.normalisation(name, 64, **settings())
    y = np.asarray(norm(x)).reshape(2, 8, 6, 32, 2)  # the last axis: the channels of one of 32 groups
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axes), 1, atol=1e-4)


@pytest.mark.parametrize(("features", "groups"), [(8, 8), (48, 16), (64, 32)])
def test_groups_divide_the_channels(features, groups):
    assert layers.normalisation("group", features, **settings()).num_groups == groups


def test_normalisation_none_is_nothing():
    assert layers.normalisation("none", 4, **settings()) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("relu", [0, 2]), ("leaky_relu", [-0.02, 2]), ("silu", [-0.2384, 1.7616]), ("gelu", [-0.0454, 1.9546])],
)
def test_activations(name, expected):
    # silu x σ(x); gelu x Φ(x), in its tanh form
    found = layers.activation_function(name)(jnp.array([-2.0, 2.0]))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_gradient_of_relu_is_1_above_0_and_0_elsewhere():
    x = jnp.array([-np.inf, -1, -0.0, 0, 0.5, 3, np.inf])
    np.testing.assert_array_equal(layers.relu(x), [0, 0, 0, 0, 0.5, 3, np.inf])
    np.testing.assert_array_equal(jax.vjp(layers.relu, x)[1](jnp.full(7, 5.0))[0], [0, 0, 0, 0, 5, 5, 5])
    assert jnp.isnan(layers.relu(jnp.array(jnp.nan)))


def test_the_gradient_of_relu_needs_its_output_alone():
    traced = jax.make_jaxpr(lambda x, tangent: jax.vjp(layers.relu, x)[1](tangent))(jnp.zeros(3), jnp.ones(3))
    activated, compared = traced.eqns[:2]
    assert (activated.primitive.name, compared.primitive.name) == ("custom_jvp_call", "eq")
    assert compared.invars[0] is activated.outvars[0]
    assert [one.primitive.name for one in traced.eqns if activated.invars[0] in one.invars] == ["custom_jvp_call"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.normalisation("layer", 4, **settings()), r"config\.model\.norm is 'layer'; .*instance"),
        (lambda: layers.activation_function("tanh"), r"config\.model\.activation is 'tanh'; .*leaky_relu"),
        (
            lambda: layers.conv(1, 1, kernel=3, rank=2, padding="full", **settings()),
            r"config\.model\.padding is 'full'; .*valid",
        ),
        (
            lambda: layers.conv(1, 1, kernel=3, rank=2, init="zero", **settings()),
            r"config\.model\.init is 'zero'; .*he",
        ),
    ],
)
def test_an_unknown_name_names_its_config_key(make, message):
    with pytest.raises(InputError, match=message):
        make()

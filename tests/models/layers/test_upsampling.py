import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import layer_options

from unet_jax.errors import InputError
from unet_jax.models.layers import Upsample, conv, conv_joined, upsample_linear, upsample_nearest


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_linear_keeps_the_ends_and_is_linear_between(n):
    x = random(2, n, 3)
    at = np.arange(2 * n) * (n - 1) / (2 * n - 1)
    expected = np.stack([[np.interp(at, np.arange(n), x[b, :, c]) for c in range(3)] for b in range(2)])
    np.testing.assert_allclose(upsample_linear(jnp.asarray(x), 1), expected.swapaxes(1, 2), atol=1e-6)


def test_linear_makes_a_ramp_the_finer_ramp():
    ramp = jnp.linspace(-1.0, 3.0, 6)
    np.testing.assert_allclose(upsample_linear(ramp, 0), np.linspace(-1, 3, 12), atol=1e-6)


def test_linear_has_the_transposed_map_for_gradient():
    n = 5
    at = np.arange(2 * n) * (n - 1) / (2 * n - 1)
    matrix = np.stack([np.interp(at, np.arange(n), unit) for unit in np.eye(n)], axis=1)
    cotangent = random(2 * n, 3)
    _, pull_back = jax.vjp(lambda x: upsample_linear(x, 0), jnp.zeros((n, 3)))
    np.testing.assert_allclose(pull_back(jnp.asarray(cotangent))[0], matrix.T @ cotangent, atol=1e-6)


def test_nearest_repeats_every_sample():
    np.testing.assert_array_equal(upsample_nearest(jnp.arange(3.0), 0), [0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("how", ["bilinear", "nearest", "transposed"])
@pytest.mark.parametrize("rank", [2, 3])
def test_doubles_every_axis(how, rank):
    layer = Upsample(4, 2, layer_options(rank), how=how)
    shape = jax.eval_shape(layer, jnp.zeros((1, *(3, 4, 5)[:rank], 4))).shape
    assert layer.out_features == (2 if how == "transposed" else 4)
    assert shape == (1, *(6, 8, 10)[:rank], layer.out_features)


def test_an_unknown_way_names_its_config_key():
    with pytest.raises(InputError, match=r"^up is 'cubic'; .*transposed"):
        Upsample(4, 2, layer_options(), how="cubic")


@pytest.mark.parametrize("how", ["bilinear", "nearest", "transposed"])
@pytest.mark.parametrize(
    ("rank", "settings"), [(2, {}), (2, {"padding": "valid"}), (2, {"kernel": 1}), (2, {"stride": 2}), (3, {})]
)
def test_joined_is_the_convolution_of_the_concatenation_whichever_way_it_is_computed(how, rank, settings):
    upsample = Upsample(4, 3, layer_options(rank), how=how)
    layer = conv(upsample.out_features + 2, 5, layer_options(rank, seed=1), **{"kernel": 3} | settings)
    x, skip = jnp.asarray(random(1, *(3, 4, 2)[:rank], 4)), jnp.asarray(random(1, *(6, 8, 4)[:rank], 2))
    plain = layer(jnp.concatenate([upsample(x), skip], axis=-1))
    np.testing.assert_allclose(conv_joined(layer, upsample, x, skip), plain, atol=1e-5)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import layer_options

from unet_jax.errors import InputError
from unet_jax.models import layers


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("kernel", "rank", "fan_in"), [(3, 2, 45), (1, 2, 5), ((1, 3, 5), 3, 75)])
def test_torch_init_is_uniform_within_one_over_the_root_of_the_inputs(kernel, rank, fan_in):
    conv = layers.conv(5, 200, layer_options(rank), kernel=kernel)
    for parameter in (conv.kernel[...], conv.bias[...]):
        assert 0.98 < jnp.abs(parameter).max() * np.sqrt(fan_in) <= 1
    # the variance of U(-b, b) is b²/3
    np.testing.assert_allclose(conv.kernel[...].std(), np.sqrt(1 / (3 * fan_in)), rtol=0.05)


def test_torch_init_of_a_transposed_convolution_goes_by_its_outputs():
    conv = layers.conv_transposed(50, 20, layer_options(), stride=2)
    assert conv.kernel[...].shape == (2, 2, 50, 20)
    assert 0.98 < jnp.abs(conv.kernel[...]).max() * np.sqrt(20 * 4) <= 1


def test_he_init_is_normal_with_a_variance_of_two_over_the_inputs():
    conv = layers.conv(20, 50, layer_options(init="he"), kernel=3)
    transposed = layers.conv_transposed(50, 20, layer_options(init="he"), stride=2)
    for layer, inputs in ((conv, 20 * 9), (transposed, 50)):
        kernel = np.asarray(layer.kernel[...]) * np.sqrt(inputs / 2)
        assert not layer.bias[...].any()
        np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, 1], atol=0.03)
        np.testing.assert_allclose((np.abs(kernel) < 1).mean(), 0.683, atol=0.02)


def test_he_init_keeps_the_mean_square_from_layer_to_layer():
    x = jnp.asarray(random(1, 16, 16, 64))
    for seed in range(3):
        conv = layers.conv(64, 64, layer_options(init="he", seed=seed), kernel=3)
        x = conv(jax.nn.relu(x))
    assert 0.6 < jnp.mean(x[:, 4:-4, 4:-4] ** 2) < 1.6


def test_conv_is_centred_whatever_its_stride():
    x = jnp.zeros((1, 6, 6, 1)).at[0, 2, 4, 0].set(1.0)
    conv = layers.conv(1, 1, layer_options(), kernel=3, stride=2)
    y = conv(x) - conv.bias[...]
    assert y.shape == (1, 3, 3, 1)
    np.testing.assert_allclose(y[0, 1, 2, 0], conv.kernel[...][1, 1, 0, 0], atol=1e-7)


def test_valid_padding_pads_nothing():
    conv = layers.conv(1, 1, layer_options(), kernel=3, padding="valid")
    x = jnp.asarray(random(1, 3, 3, 1))
    expected = (x * conv.kernel[...][None, ..., 0]).sum() + conv.bias[...]
    np.testing.assert_allclose(conv(x)[0, 0, 0], expected, rtol=1e-5)


def test_conv_transposed_makes_each_sample_a_block():
    conv = layers.conv_transposed(1, 1, layer_options(), stride=2)
    one = jnp.zeros((1, 2, 2, 1)).at[0, 1, 0, 0].set(1.0)
    found = (conv(one) - conv.bias[...])[0, :, :, 0]
    expected = jnp.zeros((4, 4)).at[2:, :2].set(conv.kernel[...][::-1, ::-1, 0, 0])
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_an_unknown_padding_names_its_config_key():
    with pytest.raises(InputError, match=r"^padding is 'full'; .*valid"):
        layers.conv(1, 1, layer_options(), kernel=3, padding="full")

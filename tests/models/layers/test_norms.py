import jax.numpy as jnp
import numpy as np
import pytest
from networks import layer_options

from unet_jax.errors import InputError
from unet_jax.models import layers


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("name", "axes"), [("batch", (0, 1, 2)), ("instance", (1, 2)), ("group", (1, 2, 4))])
def test_normalisation_gives_mean_0_and_variance_1(name, axes):
    x = jnp.asarray(3 * random(2, 8, 6, 64) + 5)
    norm = layers.normalisation(name, 64, layer_options())
    y = np.asarray(norm(x)).reshape(2, 8, 6, 32, 2)  # the last axis: the channels of one of 32 groups
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axes), 1, atol=1e-4)


@pytest.mark.parametrize(("features", "groups"), [(8, 8), (48, 16), (64, 32)])
def test_groups_divide_the_channels(features, groups):
    assert layers.normalisation("group", features, layer_options()).num_groups == groups


def test_normalisation_none_is_nothing():
    assert layers.normalisation("none", 4, layer_options()) is None


def test_an_unknown_normalisation_names_its_config_key():
    with pytest.raises(InputError, match=r"^norm is 'layer'; .*instance"):
        layers.normalisation("layer", 4, layer_options())

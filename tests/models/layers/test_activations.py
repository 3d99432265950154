import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.errors import InputError
from unet_jax.models import layers


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


def test_the_gradient_of_relu_needs_only_its_output():
    traced = jax.make_jaxpr(lambda x, tangent: jax.vjp(layers.relu, x)[1](tangent))(jnp.zeros(3), jnp.ones(3))
    activated, compared = traced.eqns[:2]
    assert (activated.primitive.name, compared.primitive.name) == ("custom_jvp_call", "eq")
    assert compared.invars[0] is activated.outvars[0]
    assert [one.primitive.name for one in traced.eqns if activated.invars[0] in one.invars] == ["custom_jvp_call"]


def test_an_unknown_activation_names_its_config_key():
    with pytest.raises(InputError, match=r"^activation is 'tanh'; .*leaky_relu"):
        layers.activation_function("tanh")

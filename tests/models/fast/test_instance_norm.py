import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unet_jax.models.fast import instance_norm
from unet_jax.models.fast.instance_norm import InstanceNorm, leaky_relu


def random(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def layers(dtype=jnp.float32) -> tuple[InstanceNorm, nnx.InstanceNorm]:
    made = []
    for layer in (InstanceNorm, nnx.InstanceNorm):
        norm = layer(6, epsilon=1e-5, dtype=dtype, rngs=nnx.Rngs(0))
        norm.scale[...], norm.bias[...] = random(6, seed=1).at[0].set(0), random(6, seed=2)
        made.append(norm)
    return made


def value_and_gradients(norm, activated, x) -> list[jax.Array]:
    graphdef, params = nnx.split(norm)

    @jax.jit
    def both(params, x):
        value, pull = jax.vjp(lambda params, x: activated(nnx.merge(graphdef, params), x), params, x)
        return value, pull(random(*value.shape, seed=3).astype(value.dtype))

    return jax.tree.leaves(both(params, x))


@pytest.mark.parametrize("slope", [0.01, 1.0])
@pytest.mark.parametrize("size", [(6, 5), (4, 3, 5), (1, 1, 2)])
def test_value_and_gradients_are_those_of_flax(size, slope, monkeypatch):
    monkeypatch.setattr(instance_norm, "BLOCK", 200)
    ours, flaxs = layers()
    x = 2 * random(2, *size, 6, seed=4) + 1
    got = value_and_gradients(ours, lambda norm, x: norm(x, slope=slope), x)
    expected = value_and_gradients(flaxs, lambda norm, x: jax.nn.leaky_relu(norm(x), slope), x)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_it_is_as_near_to_float32_as_flaxs():
    x = 2 * random(2, 6, 7, 8, 6, seed=4) + 1
    (ours, flaxs), (_, exact) = layers(jnp.bfloat16), layers()
    plain = lambda norm, x: jax.nn.leaky_relu(norm(x), 0.01)  # noqa: E731
    true = value_and_gradients(exact, plain, x)
    got = value_and_gradients(ours, lambda norm, x: norm(x, slope=0.01), x)
    expected = value_and_gradients(flaxs, plain, x)
    for one, other, value in zip(got, expected, true, strict=True):
        assert one.dtype == other.dtype
        errors = [float(jnp.sqrt(jnp.mean((each.astype(jnp.float32) - value) ** 2))) for each in (one, other)]
        assert errors[0] <= 1.05 * errors[1]


def test_parameters_are_those_of_flax():
    ours, flaxs = (nnx.to_pure_dict(nnx.state(layer, nnx.Param)) for layer in layers())
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, flaxs) == {"scale": (6,), "bias": (6,)}


def test_other_devices_get_flaxs(monkeypatch):
    monkeypatch.setattr(instance_norm, "backend_for", lambda shape: "gpu")
    ours, flaxs = layers()
    x = random(2, 3, 4, 5, 6, seed=4)
    traced = [str(jax.make_jaxpr(layer)(x)) for layer in (ours, flaxs)]
    assert traced[0] == traced[1]


@functools.partial(jax.vmap, in_axes=(0,))
def gradient(x):
    return jax.grad(leaky_relu)(x, 0.25)


def test_leaky_relu_and_its_gradient():
    x = jnp.array([-2.0, -0.5, 0.0, 3.0])
    np.testing.assert_array_equal(leaky_relu(x, 0.25), [-0.5, -0.125, 0, 3])
    np.testing.assert_array_equal(gradient(x), [0.25, 0.25, 1, 1])

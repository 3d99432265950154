import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import layer_options

from unet_jax.models.fast import bias
from unet_jax.models.fast.upsampled_conv import conv_joined
from unet_jax.models.layers import conv, conv_transposed

BFLOAT16 = layer_options(dtype=jnp.bfloat16)


def of_conv(layer, x):
    return layer(x)


def of_joined(layer, x):
    return conv_joined(layer, x[..., :2], jnp.repeat(jnp.repeat(x[..., 2:], 2, 1), 2, 2))


@pytest.mark.parametrize(
    ("layer", "call", "pixels"),
    [
        (conv(3, 4, BFLOAT16, kernel=3), of_conv, 32 * 32),
        (conv_transposed(3, 4, BFLOAT16, stride=2), of_conv, 64 * 64),
        (conv(3, 4, BFLOAT16, kernel=3), of_joined, 64 * 64),
    ],
)
def test_in_bfloat16_the_gradient_of_a_bias_counts_every_pixel(layer, call, pixels):
    # A sum of ones in bfloat16 stops at 256, since 257 is rounded to it.
    x = jnp.ones((2, 32, 32, 3), jnp.bfloat16)
    graphdef, params = nnx.split(layer)
    gradient = jax.jit(jax.grad(lambda params: call(nnx.merge(graphdef, params), x).astype(jnp.float32).sum()))(params)
    assert gradient["bias"].dtype == jnp.float32
    np.testing.assert_array_equal(gradient["bias"][...], np.full(4, 2 * pixels))


def test_it_is_added_as_by_flax():
    # Whole numbers, whose sums are exact in any order: CPUs differ in theirs.
    layer = conv(2, 3, layer_options(), kernel=3)
    nnx.update(layer, jax.tree.map(lambda values: jnp.round(8 * values), nnx.state(layer)))
    theirs = nnx.Conv(2, 3, kernel_size=(3, 3), padding=1, rngs=nnx.Rngs(1))
    nnx.update(theirs, nnx.state(layer))
    x = jnp.asarray(np.random.default_rng(0).integers(-9, 10, (2, 5, 6, 2)), jnp.float32)
    np.testing.assert_array_equal(layer(x), theirs(x))
    assert jax.tree.structure(nnx.state(layer)) == jax.tree.structure(nnx.state(theirs))


def test_its_output_and_both_gradients():
    y, added, cotangent = (
        jnp.asarray(np.random.default_rng(n).standard_normal(s)) for n, s in enumerate([(2, 3, 4), (4,), (2, 3, 4)])
    )
    out, pull = jax.vjp(bias.add_bias, y, added)
    np.testing.assert_allclose(out, y + added)
    of_y, of_added = pull(cotangent)
    np.testing.assert_array_equal(of_y, cotangent)
    np.testing.assert_allclose(of_added, cotangent.sum((0, 1)), rtol=1e-6)

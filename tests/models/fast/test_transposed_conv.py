import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import layer_options

from unet_jax.models.fast import transposed_conv
from unet_jax.models.layers import conv_transposed


def random(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("size", [(2, 2), (2, 2, 2), (1, 2, 2), (3, 1, 2), (4, 2)])
def test_value_and_gradients_are_those_of_xla(size):
    x, kernel = random(2, *(3, 5, 4)[: len(size)], 6), random(*size, 6, 5, seed=1)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(transposed, x, kernel):
        value, pull = jax.vjp(transposed, x, kernel)
        return value, pull(random(*value.shape, seed=2))

    theirs = value_and_gradients(lambda x, kernel: jax.lax.conv_transpose(x, kernel, size, "SAME"), x, kernel)
    ours = value_and_gradients(transposed_conv.conv_transposed, x, kernel)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_every_sample_becomes_a_block_of_its_own():
    x, kernel = random(1, 2, 2, 3), random(2, 2, 3, 1, seed=1)
    made = transposed_conv.conv_transposed(x, kernel)
    # The last tap reaches the first sample, as in lax.conv_transpose.
    np.testing.assert_allclose(made[0, 2, 0, 0], x[0, 1, 0] @ kernel[1, 1, :, 0], rtol=1e-5)
    np.testing.assert_allclose(made[0, 3, 0, 0], x[0, 1, 0] @ kernel[0, 1, :, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("backend", "kernel", "expected"),
    [
        ("cpu", 2, "dot_general"),
        ("gpu", 2, "dot_general"),
        ("cpu", 3, "conv_general_dilated"),
        ("gpu", 3, "conv_general_dilated"),
        ("tpu", 2, "conv_general_dilated"),
    ],
)
def test_it_replaces_xlas_where_the_kernel_is_the_stride(backend, kernel, expected, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    layer = conv_transposed(4, 3, layer_options(3), stride=2, kernel=kernel)
    traced = jax.make_jaxpr(lambda x: layer(x))(random(1, 2, 3, 2, 4))
    known = {name: str(traced).count(name) for name in ("dot_general[", "conv_general_dilated[")}
    assert {name for name, count in known.items() if count} == {f"{expected}["}

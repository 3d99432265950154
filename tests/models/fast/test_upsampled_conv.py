import functools

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from flax import nnx
from networks import layer_options

from unet_jax.models.fast import upsampled_conv
from unet_jax.models.fast.upsampled_conv import conv_joined, conv_upsampled
from unet_jax.models.layers import conv, upsample_linear


def random(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
    doubled = upsample_linear(upsample_linear(x, 1), 2)
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(doubled, kernel, (1, 1), "SAME", dimension_numbers=numbers)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (5, 4)])
def test_it_is_the_convolution_of_the_doubled_image_and_so_are_its_gradients(size):
    x, kernel, cotangent = (
        random(2, *size, 4),
        random(3, 3, 4, 3, seed=1),
        random(2, 2 * size[0], 2 * size[1], 3, seed=2),
    )

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, x, kernel):
        value, pull = jax.vjp(function, x, kernel)
        return value, *pull(cotangent)

    for one, other in zip(*(value_and_gradients(one, x, kernel) for one in (conv_upsampled, plain)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
def test_joined_it_convolves_the_concatenation(use_bias):
    layer = conv(5, 3, layer_options(), kernel=3, use_bias=use_bias)
    x, skip = random(1, 2, 3, 2), random(1, 4, 6, 3, seed=1)
    doubled = upsample_linear(upsample_linear(x, 1), 2)
    np.testing.assert_allclose(conv_joined(layer, x, skip), layer(jnp.concatenate([doubled, skip], axis=-1)), atol=1e-5)


def test_it_computes_in_the_layers_type():
    layer = conv(5, 3, layer_options(dtype=jnp.bfloat16), kernel=3)
    x, skip = random(1, 2, 3, 2), random(1, 4, 6, 3, seed=1)
    traced = jax.make_jaxpr(lambda x, skip: conv_joined(layer, x, skip))(x, skip)
    assert traced.out_avals[0].dtype == jnp.bfloat16
    products = [
        equation for equation in traced.eqns if equation.primitive.name in ("dot_general", "conv_general_dilated")
    ]
    assert products
    assert {variable.aval.dtype for one in products for variable in one.invars} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_network_gives_the_same_either_way(norm, monkeypatch):
    model = networks.make("tutorial", 3, 1, width=4, depth=3, norm=norm)
    model = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    image = networks.image(2, 8, 12, 3)
    answers = []
    for backend in ("gpu", "tpu"):
        monkeypatch.setattr(upsampled_conv, "backend_for", lambda shape, backend=backend: backend)
        answers.append(jax.jit(lambda image: model(image))(image))
    np.testing.assert_allclose(*answers, atol=1e-4)


@pytest.mark.parametrize(
    ("backend", "settings", "expected"),
    [
        ("cpu", {}, True),
        ("gpu", {}, True),
        ("tpu", {}, False),
        (None, {}, False),
        ("cpu", {"kernel": 1}, False),
        ("cpu", {"stride": 2}, False),
        ("cpu", {"padding": "valid"}, False),
        ("cpu", {"rank": 3}, False),
    ],
)
def test_it_replaces_3_by_3_convolutions_that_keep_the_size_where_it_was_measured(
    monkeypatch, backend, settings, expected
):
    monkeypatch.setattr(upsampled_conv, "backend_for", lambda shape: backend)
    rank = settings.get("rank", 2)
    layer = conv(5, 3, layer_options(rank), **{"kernel": 3} | {k: v for k, v in settings.items() if k != "rank"})
    assert upsampled_conv.pays(layer, random(1, *(4,) * rank, 2)) == expected
    # a training step splits the network and merges it again
    assert upsampled_conv.pays(nnx.merge(*nnx.split(layer)), random(1, *(4,) * rank, 2)) == expected

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from unet_jax.models.fast import convolution, convolution_3d
from unet_jax.models.fast.convolution_3d import convolve_volume

NUMBERS = {"dimension_numbers": ("NDHWC", "DHWIO", "NDHWC")}


def random(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def value_and_gradients(convolution_of, x, kernel, strides, padding):
    value, pull = jax.vjp(lambda *both: convolution_of(*both, strides, padding, **NUMBERS), x, kernel)
    return value, pull(random(*value.shape, seed=2).astype(value.dtype))


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize(
    ("size", "strides", "padding"),
    [
        ((3, 3, 3), (1, 1, 1), ((1, 1),) * 3),
        ((3, 3, 3), (2, 2, 2), ((1, 1),) * 3),
        ((3, 3, 3), (1, 2, 2), ((1, 1),) * 3),
        ((3, 3, 3), (2, 1, 2), ((1, 1),) * 3),
        ((3, 3, 3), (3, 2, 4), ((1, 1),) * 3),
        ((1, 3, 3), (1, 1, 1), ((0, 0), (1, 1), (1, 1))),
        ((1, 3, 3), (2, 2, 1), ((0, 0), (1, 1), (1, 1))),
        ((3, 1, 1), (2, 1, 1), ((1, 1), (0, 0), (0, 0))),
        ((5, 3, 1), (1, 1, 1), ((2, 2), (1, 1), (0, 0))),
        ((3, 3, 3), (1, 1, 1), "VALID"),
        ((3, 3, 3), (2, 2, 2), "VALID"),
        ((2, 2, 2), (2, 2, 2), "SAME"),
        ((2, 3, 4), (1, 1, 1), "SAME"),
    ],
)
def test_value_and_gradients_are_those_of_xla(size, strides, padding, channels, monkeypatch):
    monkeypatch.setattr(convolution, "BLOCK", 24)
    monkeypatch.setattr(convolution_3d, "LARGE_PLANE", 40 if strides[0] == 1 else 512)
    arguments = random(2, 7, 6, 8, channels), random(*size, channels, 5, seed=1), strides, padding
    ours, theirs = (value_and_gradients(one, *arguments) for one in (convolve_volume, lax.conv_general_dilated))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))


def test_in_bfloat16_it_is_as_near_to_float32_as_xlas():
    x, kernel = random(2, 6, 8, 8, 16), random(3, 3, 3, 16, 16, seed=1)
    exact = value_and_gradients(lax.conv_general_dilated, x, kernel, (1, 1, 1), "SAME")
    halves = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    ours, theirs = (
        value_and_gradients(one, *halves, (1, 1, 1), "SAME") for one in (convolve_volume, lax.conv_general_dilated)
    )
    for one, other, true in zip(*map(jax.tree.leaves, (ours, theirs, exact)), strict=True):
        assert one.dtype == jnp.bfloat16
        errors = [float(jnp.sqrt(jnp.mean((got.astype(jnp.float32) - true) ** 2))) for got in (one, other)]
        assert errors[0] < 1.05 * errors[1]


@pytest.mark.parametrize(
    ("size", "options", "channels"),
    [
        ((1, 1, 1), {}, 16),
        ((3, 3, 3), {"rhs_dilation": (2, 2, 2)}, 16),
        ((3, 3, 3), {"feature_group_count": 2}, 8),
    ],
)
def test_pointwise_dilated_and_grouped_convolutions_are_left_to_xla(size, options, channels):
    groups = options.get("feature_group_count", 1)
    shapes = (1, 8, 8, 8, channels * groups), (*size, channels, 4)
    assert primitives(shapes, **options) == ["conv_general_dilated"]


def test_other_devices_and_open_sizes_get_xlas(monkeypatch):
    shapes = (1, 8, 8, 8, 16), (3, 3, 3, 16, 4)
    assert primitives(shapes) != ["conv_general_dilated"]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert primitives(shapes) == ["conv_general_dilated"]
    monkeypatch.undo()
    [open_size] = jax.export.symbolic_shape("b")
    assert primitives(((open_size, *shapes[0][1:]), shapes[1])) == ["conv_general_dilated"]


def primitives(shapes, **options) -> list[str]:
    traced = jax.make_jaxpr(lambda x, kernel: convolve_volume(x, kernel, (1, 1, 1), "SAME", **options, **NUMBERS))(
        *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    )
    return [equation.primitive.name for equation in traced.eqns]

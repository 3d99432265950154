import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from unet_jax.models.fast import convolution
from unet_jax.models.fast.convolution import convolve, kernel_gradient

NUMBERS = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def random(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("channels", [(16, 5), (16, 16), (3, 12), (24, 20)], ids=str)
@pytest.mark.parametrize(
    ("size", "padding"),
    [
        ((3, 3), "SAME"),
        ((3, 3), "VALID"),
        ((5, 5), "SAME"),
        ((1, 3), [(1, 1), (2, 0)]),
        ((2, 2), "SAME"),
        ((3, 3), [(0, 2), (2, 1)]),  # of an odd width
    ],
)
def test_value_and_gradients_are_those_of_xla(size, padding, channels, monkeypatch):
    monkeypatch.setattr(convolution, "BLOCK", 24)
    given, made = channels
    x, kernel, cotangent = random(3, 6, 8, given), random(*size, *channels, seed=1), random(3, 9, 10, made, seed=2)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(convolution_of, x, kernel):
        value, pull = jax.vjp(lambda *both: convolution_of(*both, (1, 1), padding, **NUMBERS), x, kernel)
        return value, pull(cotangent[:, : value.shape[1], : value.shape[2]])

    ours, theirs = (value_and_gradients(one, x, kernel) for one in (convolve, lax.conv_general_dilated))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [
        ((16, 16), 8, (5, 32)),  # eight columns and two of padding are five pairs
        ((12, 12), 8, (5, 24)),
        ((3, 16), 8, (5, 6)),
        ((8, 8), 8, (8, 8)),
        ((16, 17), 8, (8, 16)),
        ((16, 16), 7, (7, 16)),
    ],
)
def test_few_channels_are_convolved_in_pairs_of_pixels(channels, width, expected):
    shapes = (1, 4, width, channels[0]), (3, 3, *channels)
    traced = jax.jit(lambda x, kernel: convolve(x, kernel, (1, 1), "SAME", **NUMBERS)).lower(
        *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    )
    [line] = [line for line in traced.as_text().splitlines() if "stablehlo.convolution" in line]
    assert f"tensor<1x4x{expected[0]}x{expected[1]}xf32>" in line.split(":")[-1]


def test_a_convolution_without_padding_is_given_some():
    # Without any, XLA's fast kernels for CPUs take up to ten times as long.
    shapes = (1, 6, 8, 16), (3, 3, 16, 32)
    traced = jax.jit(lambda x, kernel: convolve(x, kernel, (1, 1), "VALID", **NUMBERS)).lower(
        *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    )
    [line] = [line for line in traced.as_text().splitlines() if "stablehlo.convolution" in line]
    assert "tensor<1x6x6x32xf32>" in line.split(":")[-1]


def test_the_kernels_gradient_is_the_sum_over_all_places(monkeypatch):
    monkeypatch.setattr(convolution, "BLOCK", 8)
    x, gradient = random(2, 6, 6, 3), random(2, 4, 4, 2, seed=1)
    expected = np.zeros((3, 3, 3, 2))
    for s, t in np.ndindex(3, 3):
        expected[s, t] = np.einsum("bhwc,bhwd->cd", x[:, s : s + 4, t : t + 4], gradient)
    np.testing.assert_allclose(jax.jit(kernel_gradient, static_argnums=2)(x, gradient, (3, 3)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "height", "width", "expected"),
    [(8, 16, 16, (2, 16)), (1, 256, 256, (1, 2)), (3, 8, 8, (3, 8)), (4, 7, 1024, (1, 1)), (6, 36, 36, (1, 12))],
)
def test_blocks_divide_what_there_is_and_hold_512_pixels(count, height, width, expected):
    assert convolution._block(count, height, width) == expected


@pytest.mark.parametrize(
    ("strides", "options", "channels"),
    [
        ((2, 2), {}, 16),
        ((1, 1), {"rhs_dilation": (2, 2)}, 16),
        ((1, 1), {"feature_group_count": 2}, 8),
        ((1, 1), {}, 3),
    ],
)
def test_all_other_convolutions_are_left_to_xla(strides, options, channels):
    groups = options.get("feature_group_count", 1)
    shapes = (1, 8, 8, channels * groups), (3, 3, channels, 4)
    traced = jax.make_jaxpr(lambda x, kernel: convolve(x, kernel, strides, "SAME", **options, **NUMBERS))(
        *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    )
    assert [equation.primitive.name for equation in traced.eqns] == ["conv_general_dilated"]


def test_other_devices_and_open_sizes_get_xlas(monkeypatch):
    shape = (1, 8, 8, 16)
    [open_size] = jax.export.symbolic_shape("b")
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert convolution.backend_for(shape) == backend
        assert convolution.backend_for((open_size, 8, 8, 16)) is None
    shapes = shape, (3, 3, 16, 4)
    traced = jax.make_jaxpr(lambda x, kernel: convolve(x, kernel, (1, 1), "SAME", **NUMBERS))(
        *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    )
    assert [equation.primitive.name for equation in traced.eqns] == ["conv_general_dilated"]

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from unet_jax.models.fast import convolution
from unet_jax.models.fast.convolution import convolve
from unet_jax.models.fast.native import cache, calls, machine

NUMBERS = {4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}


def random(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5))
def value_and_gradients(convolution_of, x, kernel, strides, padding, case=None):
    """`case` is there to be traced anew for."""
    numbers = NUMBERS[x.ndim]
    value, pull = jax.vjp(lambda *both: convolution_of(*both, strides, padding, dimension_numbers=numbers), x, kernel)
    return value, pull(random(*value.shape, seed=2).astype(value.dtype))


def assert_as_xlas(x, kernel, strides, padding, case=None):
    arguments = x, kernel, strides, padding, case
    ours, theirs = (value_and_gradients(one, *arguments) for one in (convolve, lax.conv_general_dilated))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))


@pytest.mark.parametrize("channels", [(16, 5), (16, 16), (3, 12), (24, 20), (5, 40), (1, 8), (2, 3)], ids=str)
@pytest.mark.parametrize(
    ("size", "strides", "padding"),
    [
        ((3, 3), (1, 1), "SAME"),
        ((3, 3), (1, 1), "VALID"),
        ((5, 5), (1, 1), "SAME"),
        ((1, 3), (1, 1), ((1, 1), (2, 0))),
        ((2, 2), (1, 1), "SAME"),
        ((3, 3), (1, 1), ((0, 2), (2, 1))),
        ((3, 3), (1, 1), ((4, 0), (0, 12))),  # more zeros than the kernel reaches
        ((3, 3), (1, 1), ((-1, 1), (1, -2))),  # the first row and the last two columns left out
        ((3, 3), (2, 2), ((1, 1), (1, 1))),
        ((3, 2), (2, 3), "VALID"),
        ((2, 1), (3, 1), "SAME"),  # pixels that no tap meets
        ((1, 1), (1, 1), "SAME"),
        ((1, 1), (2, 2), "VALID"),
    ],
)
def test_in_2d_value_and_gradients_are_those_of_xla(size, strides, padding, channels):
    assert_as_xlas(random(3, 6, 8, channels[0]), random(*size, *channels, seed=1), strides, padding)


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
        ((1, 1, 1), (1, 1, 1), "SAME"),
        ((1, 1, 1), (2, 2, 2), "SAME"),
    ],
)
def test_in_3d_value_and_gradients_are_those_of_xla(size, strides, padding, channels):
    assert_as_xlas(random(2, 7, 6, 8, channels), random(*size, channels, 5, seed=1), strides, padding)


@pytest.mark.parametrize("cores", [1, 2, 5, 64])
@pytest.mark.parametrize("block", [1, 4_000, 256 * 1024])
@pytest.mark.parametrize("vectors", [(4, 32), (8, 16), (16, 32)], ids=str)
@pytest.mark.parametrize("shape", [(2, 9, 13, 20), (1, 5, 9, 13, 20)], ids=["2-D", "3-D"])
def test_however_it_is_divided_it_is_the_same(shape, vectors, block, cores, monkeypatch):
    """Tiles of a row of 13 pixels have some in common."""
    monkeypatch.setattr(machine, "vectors", lambda: vectors)
    monkeypatch.setattr(calls, "cores", lambda: cores)
    monkeypatch.setattr(cache, "BLOCK", block)
    monkeypatch.setattr(cache, "WEIGHTS", 2 * block)
    rank = len(shape) - 2
    kernel, padding = random(*[3] * rank, 20, 36, seed=1), ((1, 1),) * rank
    assert_as_xlas(random(*shape), kernel, (1,) * rank, padding, (vectors, block, cores))


def test_axes_in_front_are_taken_one_by_one():
    x, kernels = random(2, 3, 6, 8, 5), random(2, 3, 3, 5, 8, seed=1)

    def loss(convolution_of, x, kernel):
        return (convolution_of(x, kernel, (1, 1), "SAME", dimension_numbers=NUMBERS[4]) ** 2).sum()

    ours, theirs = (
        jax.vmap(jax.value_and_grad(functools.partial(loss, one), argnums=(0, 1)))(x, kernels)
        for one in (convolve, lax.conv_general_dilated)
    )
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))


def test_an_output_without_pixels_is_as_xlas():
    arguments = jnp.ones((1, 2, 8, 4)), jnp.ones((3, 3, 4, 8)), (1, 1), "VALID"
    ours, theirs = (of(*arguments, dimension_numbers=NUMBERS[4]) for of in (convolve, lax.conv_general_dilated))
    assert ours.shape == theirs.shape == (1, 0, 6, 8)


def test_the_kernels_gradient_is_the_sum_over_all_places():
    x, kernel, gradient = random(2, 6, 6, 3), random(3, 3, 3, 5), random(2, 4, 4, 5, seed=1)
    expected = np.zeros((3, 3, 3, 5))
    for s, t in np.ndindex(3, 3):
        expected[s, t] = np.einsum("bhwc,bhwd->cd", x[:, s : s + 4, t : t + 4], gradient)
    _, pull = jax.vjp(lambda kernel: convolve(x, kernel, (1, 1), "VALID", dimension_numbers=NUMBERS[4]), kernel)
    np.testing.assert_allclose(pull(gradient)[0], expected, atol=1e-5)


def test_a_gradient_over_many_pixels_keeps_its_digits():
    # Summed pixel by pixel, a million numbers of one sign would lose the last three of seven digits.
    x = jnp.abs(random(1, 1000, 1000, 1))
    kernel = random(3, 3, 1, 8, seed=1)
    _, pull = jax.vjp(lambda kernel: convolve(x, kernel, (1, 1), "VALID", dimension_numbers=NUMBERS[4]), kernel)
    [found] = pull(jnp.ones((1, 998, 998, 8)))
    expected = [[np.float64(x[0, s : s + 998, t : t + 998]).sum() for t in range(3)] for s in range(3)]
    np.testing.assert_allclose(found[:, :, 0, 0], expected, rtol=3e-6)


@pytest.mark.parametrize("shape", [(2, 8, 8, 16), (2, 6, 8, 8, 16)], ids=["2-D", "3-D"])
def test_in_bfloat16_it_is_as_near_to_float32_as_xlas(shape):
    rank = len(shape) - 2
    x, kernel = random(*shape), random(*[3] * rank, 16, 16, seed=1)
    exact = value_and_gradients(lax.conv_general_dilated, x, kernel, (1,) * rank, "SAME")
    halves = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    ours, theirs = (
        value_and_gradients(one, *halves, (1,) * rank, "SAME") for one in (convolve, lax.conv_general_dilated)
    )
    for one, other, true in zip(*map(jax.tree.leaves, (ours, theirs, exact)), strict=True):
        assert one.dtype == jnp.bfloat16
        errors = [float(jnp.sqrt(jnp.mean((got.astype(jnp.float32) - true) ** 2))) for got in (one, other)]
        assert errors[0] < 1.05 * errors[1]


@pytest.mark.parametrize(
    ("size", "options", "channels", "features"),
    [
        ((3, 3), {"rhs_dilation": (2, 2)}, 16, 16),
        ((3, 3), {"feature_group_count": 2}, 8, 16),
        ((3, 3, 3), {"rhs_dilation": (2, 2, 2)}, 16, 16),
        ((3, 3, 3), {"feature_group_count": 2}, 8, 16),
    ],
)
def test_all_other_convolutions_are_left_to_xla(size, options, channels, features):
    shape = (1, *[8] * len(size), channels * options.get("feature_group_count", 1))
    assert primitives(shape, (*size, channels, features), **options) == ["conv_general_dilated"]


def test_other_machines_and_open_sizes_get_xlas(monkeypatch):
    shape, kernel = (1, 8, 8, 16), (3, 3, 16, 8)
    [open_size] = jax.export.symbolic_shape("b")
    assert primitives((open_size, *shape[1:]), kernel) == ["conv_general_dilated"]
    assert "compiled_convolution" in str(primitives(shape, kernel))
    for backend in ("gpu", "cpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert convolution.backend_for(shape) == backend
        assert convolution.backend_for((open_size, *shape[1:])) is None
        monkeypatch.setattr(machine, "vectors", lambda: None)
        assert primitives(shape, kernel) == ["conv_general_dilated"]


def primitives(shape, kernel, **options) -> list[str]:
    rank = len(shape) - 2

    def convolved(x, kernel):
        return convolve(x, kernel, (1,) * rank, "SAME", dimension_numbers=NUMBERS[rank + 2], **options)

    traced = jax.make_jaxpr(convolved)(*(jax.ShapeDtypeStruct(one, jnp.float32) for one in (shape, kernel)))
    return [equation.primitive.name if len(traced.eqns) == 1 else str(equation) for equation in traced.eqns]

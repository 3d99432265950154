import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from unet_jax import models
from unet_jax.benchmark import flops
from unet_jax.models.fast import convolution


def convolve(x, kernel, **options):
    return jax.lax.conv_general_dilated(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


def test_a_matrix_product_counts_two_for_each_multiply_add():
    left, right = jnp.ones((5, 3, 7)), jnp.ones((5, 7, 11))
    assert flops.count(jnp.matmul, left, right) == 2 * 5 * 3 * 7 * 11


def test_a_convolution_counts_its_kernel_once_a_sample_of_its_output():
    x, kernel = jnp.ones((2, 8, 10, 3)), jnp.ones((3, 3, 3, 5))
    count = flops.count(lambda x: convolve(x, kernel, window_strides=(2, 1), padding="SAME"), x)
    assert count == 2 * (2 * 4 * 10) * 5 * (3 * 3 * 3)


def test_groups_share_the_channels():
    x, kernel = jnp.ones((1, 4, 4, 6)), jnp.ones((3, 3, 2, 9))
    options = {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 3}
    assert flops.count(lambda x: convolve(x, kernel, **options), x) == 2 * 16 * 9 * (9 * 2)


def test_the_zeros_of_a_transposed_convolution_do_not_count():
    x, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((2, 2, 3, 5))
    numbers = ("NHWC", "HWIO", "NHWC")
    enlarge = lambda x: jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=numbers)  # noqa: E731
    # Each of the 4×4 samples becomes a block of 2×2.
    assert flops.count(enlarge, x) == 2 * 16 * 4 * 3 * 5


@pytest.mark.parametrize("loop", ["scan", "fori"])
def test_a_loop_counts_as_often_as_it_runs(loop):
    x = jnp.ones((4, 4))

    def scan(x):
        return jax.lax.scan(lambda carry, _: (carry @ x, None), x, None, length=6)[0]

    def fori(x):
        return jax.lax.fori_loop(0, 6, lambda _, carry: carry @ x, x)

    assert flops.count({"scan": scan, "fori": fori}[loop], x) == 6 * 2 * 4**3


def test_of_alternatives_the_costliest_counts():
    x = jnp.ones((4, 4))
    count = flops.count(lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x), x)
    assert count == 2 * 2 * 4**3


def test_the_gradient_of_a_convolution_costs_two_more():
    x, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))
    convolution = lambda x, kernel: convolve(x, kernel, window_strides=(1, 1), padding="SAME")  # noqa: E731
    gradient = jax.grad(lambda x, kernel: convolution(x, kernel).sum() ** 2, argnums=(0, 1))
    assert flops.count(gradient, x, kernel) == 3 * flops.count(convolution, x, kernel)


@pytest.mark.parametrize("shape", [(2, 8, 10, 16), (2, 6, 8, 10, 16)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("stride", [1, 2])
def test_compiled_convolutions_count_as_xlas_and_so_do_their_gradients(shape, stride):
    rank = len(shape) - 2
    x, kernel = jnp.ones(shape), jnp.ones((*[3] * rank, 16, 24))
    numbers = (("NHWC", "HWIO", "NHWC"), ("NDHWC", "DHWIO", "NDHWC"))[rank - 2]
    padded = (stride,) * rank, ((1, 1),) * rank
    ours, xlas = (
        lambda x, kernel, of=of: of(x, kernel, *padded, dimension_numbers=numbers)
        for of in (convolution.convolve, jax.lax.conv_general_dilated)
    )
    assert flops.count(ours, x, kernel) == flops.count(xlas, x, kernel) > 0
    gradient = jax.grad(lambda x, kernel: ours(x, kernel).sum() ** 2, argnums=(0, 1))
    assert flops.count(gradient, x, kernel) == 3 * flops.count(ours, x, kernel)


def test_the_tutorials_network_by_hand():
    width, size = 2, 16
    build = lambda: models.build("tutorial", 3, 1, nnx.Rngs(0), width=width, up="nearest")  # noqa: E731
    graphdef, params = nnx.split(nnx.eval_shape(build))
    w = [width * 2**level for level in range(4)]
    pixels = [(size // 2**level) ** 2 for level in range(4)]
    encoder = sum(n * 9 * (before + after) * after for n, before, after in zip(pixels, [3, *w], w, strict=False))
    decoder = sum(pixels[i] * 9 * ((w[i + 1] + w[i]) + w[i]) * w[i] for i in range(3))
    forward = lambda params, x: nnx.merge(graphdef, params)(x)  # noqa: E731
    count = flops.count(jax.jit(forward), params, jnp.ones((1, size, size, 3)))
    assert count == 2 * (encoder + decoder + pixels[0] * width)

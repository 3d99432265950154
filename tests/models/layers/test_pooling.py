import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models import layers


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def blocks(x: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """[b, *spatial, c] as [b, *spatial // block, samples of a block, c], by a loop over the blocks."""
    counts = [n // by for n, by in zip(x.shape[1:-1], block, strict=True)]
    found = np.empty((len(x), *counts, np.prod(block), x.shape[-1]), x.dtype)
    for at in np.ndindex(*counts):
        part = x[(slice(None), *(slice(i * by, (i + 1) * by) for i, by in zip(at, block, strict=True)))]
        found[(slice(None), *at)] = part.reshape(len(x), -1, x.shape[-1])
    return found


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 2, 4, 6, 2)])
def test_max_pool_is_the_largest_of_each_block(shape):
    x = random(*shape)
    expected = blocks(x, (2,) * (x.ndim - 2)).max(-2)
    np.testing.assert_array_equal(layers.max_pool(jnp.asarray(x)), expected)


def test_the_gradient_of_max_pool_goes_to_the_first_of_the_largest():
    x = jnp.array([[3.0, 3.0, 0.0, 1.0], [3.0, 2.0, 2.0, 2.0]])[None, ..., None]
    gradient = jax.grad(lambda x: (layers.max_pool(x) * jnp.array([5.0, 7.0])[:, None]).sum())(x)[0, ..., 0]
    np.testing.assert_array_equal(gradient, [[5, 0, 0, 0], [0, 0, 7, 0]])


def test_max_pool_hides_no_nan():
    for position in range(4):
        x = jnp.zeros(4).at[position].set(jnp.nan).reshape(1, 2, 2, 1)
        assert jnp.isnan(layers.max_pool(x)).all()


@pytest.mark.parametrize("block", [(1, 2, 2), (2, 2, 3), (1, 1, 1)])
def test_average_pool_is_the_mean_of_each_block(block):
    x = random(2, 2, 4, 6, 3)
    found = layers.average_pool(jnp.asarray(x), block)
    np.testing.assert_allclose(found, blocks(x, block).mean(-2), atol=1e-6)


def test_crop_keeps_the_middle():
    x = jnp.arange(8.0)[:, None] * 10 + jnp.arange(5.0)
    np.testing.assert_array_equal(layers.crop(x[None, ..., None], (2, 2))[0, ..., 0], [[31, 32], [41, 42]])

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from unet_jax.inference.restore_on_device import Decision, can_stream, taps
from unet_jax.plan.resample import Resampling
from unet_jax.plan.resize import matrix


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(("old", "new"), [(7, 7), (7, 14), (14, 7), (1, 5), (5, 1), (100, 33), (33, 100), (37, 38)])
def test_two_taps_are_the_matrix(old, new, order):
    samples = np.random.default_rng(0).normal(size=old)
    found = taps(matrix(old, new, order), 3)
    padded = np.pad(samples, 3)
    mixed = padded[found.lower] * (1 - found.weight) + padded[found.upper] * found.weight
    np.testing.assert_allclose(mixed, matrix(old, new, order) @ samples, rtol=0, atol=1e-6)
    assert (np.diff(found.lower) >= 0).all()
    assert (np.diff(found.upper) >= 0).all()


def test_what_can_be_streamed():
    yes = Resampling(1), Resampling(0, order_z=1), Resampling(3, enabled=False)
    no = Resampling(3), Resampling(1, order_z=3)
    assert [can_stream(how) for how in (*yes, *no)] == [True, True, True, False, False]


def test_the_first_of_the_largest_logits():
    logits = np.random.default_rng(0).integers(0, 4, (3, 6, 5, 4)).astype(np.float32)
    labels, probabilities = Decision(None, np.uint8, True)(jnp.asarray(logits))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, logits.argmax(axis=1))
    np.testing.assert_allclose(probabilities, special.softmax(logits, axis=1), rtol=1e-5)
    assert Decision(None, np.uint8, False)(jnp.asarray(logits))[1] is None


def test_regions_are_painted_in_their_order():
    # whole, core: neither, whole alone, both, core alone, both exactly at one half.
    logits = jnp.asarray([[-1, -1], [2, -3], [1, 1], [-1, 5], [0, 0]], jnp.float32).T.reshape(1, 2, 1, 5)
    labels, probabilities = Decision((1, 300), np.uint16, True)(logits)
    assert labels.ravel().tolist() == [0, 1, 300, 300, 0]
    np.testing.assert_allclose(probabilities, special.expit(np.asarray(logits)), rtol=1e-6)
    assert Decision((300, 1), np.uint16, False)(logits)[0].ravel().tolist() == [0, 300, 1, 1, 0]

import jax
import jax.numpy as jnp
import numpy as np
from patch_transforms import assert_share

from unet_jax.training.patch_augment.draws import factor, named, sometimes

KEY = jax.random.key(0)


def test_draws_of_different_names_differ_and_those_of_one_name_do_not():
    first, again, other = (jax.random.uniform(named(KEY, name)) for name in ("a", "a", "b"))
    assert first == again
    assert first != other


def test_factors_of_a_range_above_1_are_even_within_it():
    found = np.asarray(factor(KEY, (1.0, 3.0), (2000,)))
    assert found.min() >= 1
    assert found.max() <= 3
    assert_share(found < 2, 0.5)


def test_what_has_no_probability_is_not_even_traced():
    def fails(values):
        raise AssertionError

    values = jnp.ones(3)
    assert sometimes(KEY, 0.0, fails, values) is values


def test_what_is_certain_always_happens():
    found = jax.vmap(lambda key: sometimes(key, 1.0, jnp.negative, jnp.ones(())))(jax.random.split(KEY, 500))
    assert (found == -1).all()

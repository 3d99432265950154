import jax
import jax.numpy as jnp
import numpy as np
from patch_transforms import assert_share

from unet_jax.training.patch_augment.mirror import random_mirror

KEY = jax.random.key(0)
IMAGE = jax.random.normal(KEY, (3, 4, 5, 2))
MASK = jax.random.randint(KEY, (3, 4, 5, 1), -1, 4)


def test_mirroring_is_numpys_and_twice_is_nothing():
    image, mask = random_mirror(KEY, IMAGE, MASK, (0, 2), 1.0)
    np.testing.assert_array_equal(image, np.flip(IMAGE, (0, 2)))
    np.testing.assert_array_equal(mask, np.flip(MASK, (0, 2)))
    image, mask = random_mirror(KEY, image, mask, (0, 2), 1.0)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(mask, MASK)


def test_each_axis_is_mirrored_half_of_the_time_by_itself():
    image = jnp.arange(4.0).reshape(2, 2, 1)

    @jax.jit
    @jax.vmap
    def many(key):
        return random_mirror(key, image, image.astype(jnp.int32), (0, 1), 0.5)

    found, masks = many(jax.random.split(KEY, 2000))
    np.testing.assert_array_equal(found, masks)
    for first in range(4):  # none, columns, rows, both
        assert_share(found[:, 0, 0, 0] == first, 0.25)

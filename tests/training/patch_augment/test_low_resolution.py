import jax
import jax.numpy as jnp
import numpy as np
import pytest
from patch_transforms import assert_share, golden, part, settings

from unet_jax.training.patch_augment.low_resolution import lower, random_low_resolution
from unet_jax.training.patch_augment.settings import Chance

KEY = jax.random.key(0)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_low_resolution_is_nnunets(share):
    for axes, suffix in ((range(3), ""), (range(1, 3), "_ignore0")):
        found = lower(golden("im3"), jnp.full(2, share), axes)
        np.testing.assert_allclose(part(found), golden(f"lowres3_{share}{suffix}"), atol=1e-5)
    np.testing.assert_allclose(
        lower(golden("im2"), jnp.full(1, share), range(2)), golden(f"lowres2_{share}"), atol=1e-5
    )


def test_nothing_is_lost_where_all_voxels_are_kept():
    np.testing.assert_allclose(lower(golden("im3"), jnp.ones(2), range(3)), golden("im3"), atol=1e-6)


def test_each_channel_has_its_own_share_and_slices_are_kept_in_a_flat_patch():
    image = jnp.broadcast_to(jnp.arange(4.0)[:, None, None, None], (4, 6, 6, 2))
    image = image + jax.random.normal(KEY, (1, 6, 6, 1))
    chance = Chance(1.0, (0.5, 0.9))
    found = random_low_resolution(KEY, image, settings((4, 6, 6), dummy_2d=True, low_resolution=chance))
    assert (found[..., 0] != found[..., 1]).any()
    # What differs from slice to slice alone is as before.
    np.testing.assert_allclose(found[1:] - found[:-1], 1, atol=1e-5)


def test_channels_are_chosen_one_by_one():
    image = jax.random.normal(KEY, (7, 7, 2))
    tried = settings((7, 7), low_resolution=Chance(0.5, (0.5, 0.9), each=0.5))

    @jax.jit
    @jax.vmap
    def many(key):
        return random_low_resolution(key, image, tried)

    changed = (many(jax.random.split(KEY, 2000)) != image).any((1, 2))
    assert_share(changed[:, 0], 0.25)
    assert_share(changed.all(1), 0.125)

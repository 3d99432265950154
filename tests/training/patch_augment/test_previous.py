import jax
import jax.numpy as jnp
import numpy as np
from patch_transforms import assert_share

from unet_jax.training.patch_augment.previous import one_hot, random_morphology, random_removal, replace
from unet_jax.training.patch_augment.settings import Chance

KEY = jax.random.key(0)


def _labels():
    mask = np.zeros((8, 8, 8), np.int16)
    mask[2:6, 2:4, 2:6] = 1
    mask[2:6, 4:6, 2:6] = 2
    return one_hot(jnp.asarray(mask), (1, 2))


def test_labels_become_channels_and_what_is_outside_has_none():
    found = one_hot(jnp.array([[-1, 0], [3, 1]], jnp.int16), (1, 3))
    assert found.tolist() == [[[False, False], [False, False]], [[False, True], [True, False]]]


def test_what_a_label_gains_the_others_lose():
    labels = _labels()
    grown = jnp.ones((8, 8, 8), bool)
    found = replace(labels, jnp.int32(1), grown)
    assert found[..., 1].all()
    assert not found[..., 0].any()


def test_no_voxel_has_two_labels_after_morphology():
    changed = jax.jit(lambda key: random_morphology(key, _labels(), Chance(1.0, (1.0, 4.0), each=1.0)))
    for seed in range(10):
        assert changed(jax.random.key(seed)).sum(-1).max() <= 1


def test_labels_change_as_often_as_they_are_said_to():
    labels = _labels()
    chance = Chance(0.4, (1.0, 2.0), each=0.5)

    @jax.jit
    @jax.vmap
    def many(key):
        return random_removal(key, labels, Chance(0.4, (0.0, 1.0), each=0.5)), random_morphology(key, labels, chance)

    removed, changed = many(jax.random.split(KEY, 500))
    # Each label is one component, so that a removal leaves nothing of it.
    lost = ~removed.any((1, 2, 3))
    assert_share(lost[:, 0], 0.2)
    assert_share(lost.all(1), 0.1)
    # Closing leaves a block as it is, so this is a bound.
    untouched = (changed == labels).all((1, 2, 3, 4))
    assert np.mean(untouched) > 1 - 0.4 * 0.75 - 5 * 0.022

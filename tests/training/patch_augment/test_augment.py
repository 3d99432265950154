import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from patch_transforms import defaults, settings
from traced import imprecise_products

from unet_jax.training.patch_augment import augment
from unet_jax.training.patch_augment.settings import Chance

KEY = jax.random.key(0)
CUT, PATCH = (13, 14, 12), (8, 9, 7)
RANDOM = {"rotation": Chance(1.0, (-3.0, 3.0)), "scaling": Chance(1.0, (0.7, 1.4)), "mirror": 0.5}


@functools.partial(jax.jit, static_argnames="chosen")
def augmented(key, image, mask, chosen, previous=None):
    return augment(key, image, mask, chosen, previous)


def _batch(cut=CUT, count=3, channels=2):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(count, *cut, channels)).astype(np.float32)
    return jnp.asarray(image), jnp.asarray(rng.integers(-1, 4, (count, *cut)), jnp.int16)


def test_with_nothing_on_the_middle_is_cut_out():
    image, mask = _batch()
    found = augmented(KEY, image, mask, settings(PATCH))
    middle = (slice(None), slice(2, 10), slice(3, 12), slice(3, 10))
    np.testing.assert_array_equal(found[0], image[middle])
    np.testing.assert_array_equal(found[1], np.maximum(mask[middle], 0))


@pytest.mark.parametrize(
    ("cut", "patch", "dummy_2d"), [(CUT, PATCH, False), (CUT, (13, 9, 7), True), ((14, 12), (9, 7), False)]
)
def test_the_key_decides_everything(cut, patch, dummy_2d):
    image, mask = _batch(cut)
    chosen = defaults(patch, dummy_2d)
    one, again = (augmented(KEY, image, mask, chosen) for _ in range(2))
    assert one[0].shape == (3, *patch, 2)
    assert one[1].shape == (3, *patch)
    assert one[1].dtype == mask.dtype
    assert np.isfinite(one[0]).all()
    assert set(np.unique(one[1])) <= {0, 1, 2, 3}
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    assert (augmented(jax.random.key(1), image, mask, chosen)[0] != one[0]).any()


def test_patches_of_a_batch_are_transformed_each_by_itself():
    image, mask = _batch(count=1)
    image, mask = jnp.tile(image, (4, 1, 1, 1, 1)), jnp.tile(mask, (4, 1, 1, 1))
    found, _ = augmented(KEY, image, mask, settings(PATCH, **RANDOM))
    assert len({patch.tobytes() for patch in np.asarray(found)}) == 4


@pytest.mark.parametrize(
    ("cut", "patch", "dummy_2d"), [(CUT, PATCH, False), (CUT, (13, 9, 7), True), ((14, 12), (9, 7), False)]
)
def test_a_mask_painted_into_the_image_stays_on_it(cut, patch, dummy_2d):
    blocks = np.kron(np.random.default_rng(0).integers(0, 2, (6, *[4] * len(cut))), np.ones((1, *[4] * len(cut))))
    mask = jnp.asarray(blocks[(slice(None), *(slice(n) for n in cut))], jnp.int16)
    image, found = augmented(KEY, mask[..., None].astype(jnp.float32), mask, settings(patch, dummy_2d, **RANDOM))
    decided = np.abs(np.asarray(image[..., 0]) - 0.5) > 1e-3
    assert decided.mean() > 0.9
    np.testing.assert_array_equal((image[..., 0] > 0.5)[decided], (found == 1)[decided])


def test_one_by_one_and_all_at_once_are_the_same(monkeypatch):
    image, mask = _batch()
    chosen = defaults(PATCH, labels=(1, 2), morphology=Chance(0.4, (1.0, 2.0), each=0.5))

    def compiled():
        return jax.jit(lambda image, mask: augment(KEY, image, mask, chosen, mask))(image, mask)

    one_by_one = compiled()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    at_once = compiled()
    np.testing.assert_allclose(one_by_one[0], at_once[0], atol=1e-5)
    np.testing.assert_array_equal(one_by_one[1], at_once[1])


def test_channels_that_have_only_an_inside_are_0_outside():
    image, mask = _batch()
    found, labels = augmented(KEY, image, mask, settings(PATCH, inside_only=(False, True)))
    plain, _ = augmented(KEY, image, mask, settings(PATCH))
    outside = np.asarray(mask[:, 2:10, 3:12, 3:10]) < 0
    np.testing.assert_array_equal(found[..., 0], plain[..., 0])
    np.testing.assert_array_equal(found[..., 1], np.where(outside, 0, plain[..., 1]))
    assert not labels[outside].any()


def test_a_cascades_labels_move_with_the_mask():
    image, mask = _batch()
    found, labels = augmented(KEY, image, mask, settings(PATCH, labels=(1, 3), **RANDOM), mask)
    assert found.shape == (3, *PATCH, 4)
    np.testing.assert_array_equal(found[..., 2], labels == 1)
    np.testing.assert_array_equal(found[..., 3], labels == 3)


def test_no_product_runs_in_reduced_precision():
    image, mask = _batch()
    chosen = defaults(PATCH, labels=(1, 2))
    assert not imprecise_products(lambda image, mask: augment(KEY, image, mask, chosen, mask), image, mask)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from patch_transforms import assert_share, golden, settings, volume
from traced import imprecise_products

from unet_jax.training.patch_augment import spatial
from unet_jax.training.patch_augment.settings import Chance

KEY = jax.random.key(0)


def _resampled(image, mask, patch, angles, scale):
    def transform(image, mask):
        angles_given = [jnp.float32(angle) for angle in angles]
        places = spatial.coordinates(image.shape[:-1], patch, angles_given, jnp.float32(scale))
        return spatial.resample(image, mask, places)

    return jax.jit(transform)(jnp.asarray(image), jnp.asarray(mask))


@pytest.mark.parametrize(
    ("name", "source", "angles", "scale"),
    [
        ("sp3_rot_scale", "3", volume("angles"), 1.2),
        ("sp3_scale_out", "3", (0, 0, 0), 1.4),  # reaches beyond the edges
        ("sp2_rot_scale", "2", volume("angles")[1:2], 0.75),
    ],
)
def test_resampling_is_nnunets(name, source, angles, scale):
    expected = golden(f"{name}_image"), golden(f"{name}_seg")
    inputs = golden(f"im{source}"), golden(f"sg{source}")
    image, mask = _resampled(*inputs, expected[0].shape[:-1], angles, scale)
    np.testing.assert_allclose(image, expected[0], atol=1e-5)
    np.testing.assert_array_equal(mask, expected[1])


def test_a_crop_is_nnunets():
    for given, expected in (("im3", "sp3_none_image"), ("sg3", "sp3_none_seg")):
        np.testing.assert_array_equal(spatial.crop(golden(given), (10, 11, 9)), golden(expected))


def test_a_quarter_turn_is_numpys():
    image = np.random.default_rng(0).normal(size=(5, 5, 1)).astype(np.float32)
    mask = np.random.default_rng(1).integers(0, 4, (5, 5, 1)).astype(np.int16)
    turned, turned_mask = _resampled(image, mask, (5, 5), [np.pi / 2], 1.0)
    np.testing.assert_allclose(turned, np.rot90(image, -1), atol=1e-5)
    np.testing.assert_array_equal(turned_mask, np.rot90(mask, -1))


def test_each_angle_is_about_its_own_axis():
    image = np.random.default_rng(0).normal(size=(5, 5, 5, 1)).astype(np.float32)
    mask = np.zeros((5, 5, 5, 1), np.int16)
    for axis, plane in enumerate([(1, 2), (2, 0), (0, 1)]):
        angles = [np.pi / 2 if a == axis else 0 for a in range(3)]
        turned, _ = _resampled(image, mask, (5, 5, 5), angles, 1.0)
        np.testing.assert_allclose(turned, np.rot90(image, -1, plane), atol=1e-5)


def test_objects_shrink_at_scales_above_1():
    image = np.zeros((21, 21, 1), np.float32)
    image[5:16, 5:16] = 1
    mask = image.astype(np.int16)
    shrunk, _ = _resampled(image, mask, (21, 21), [0.0], 1.4)
    # 11 pixels / 1.4, squared; the edges are interpolated.
    assert abs(float(shrunk.sum()) - (11 / 1.4) ** 2) < 1


def test_between_two_labels_the_nearest_voxel_decides_and_a_half_is_the_even_one():
    mask = jnp.array([5, 5, 1, 1], jnp.int16)[:, None, None]
    places = jnp.array([1.25, 1.5, 1.75, 0.5, -0.4, -0.6, 3.6])
    rows = [places[:, None], jnp.zeros((7, 1))]
    _, label = spatial.resample(jnp.zeros((4, 1, 1)), mask, rows)
    # Beyond the edges, -1 has the greater weight from half a voxel on.
    assert label.ravel().tolist() == [5, 1, 1, 5, 5, -1, -1]


def test_of_labels_of_equal_weight_that_are_not_the_nearest_voxels_the_lowest_wins():
    # In the middle 1 and 2 weigh 3/8 each and 3 a quarter, and the nearest voxel, the first, is a 3.
    mask = jnp.array([3, 2, 2, 2, 1, 1, 1, 3], jnp.int16).reshape(2, 2, 2, 1)
    _, label = spatial.resample(jnp.zeros((2, 2, 2, 1)), mask, [jnp.full((1, 1, 1), 0.5)] * 3)
    assert label.item() == 1


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_one_flat_slice_is_transformed_as_in_2d(probability):
    chance = {"rotation": Chance(probability, (-3.0, 3.0)), "scaling": Chance(probability, (0.7, 1.4))}
    image = jax.random.normal(KEY, (12, 14, 2))
    mask = jax.random.randint(KEY, (12, 14, 1), -1, 4)
    plane = spatial.random_spatial(KEY, image, mask, settings((8, 9), **chance))
    slab = spatial.random_spatial(KEY, image[None], mask[None], settings((1, 8, 9), dummy_2d=True, **chance))
    for flat, deep in zip(plane, slab, strict=True):
        np.testing.assert_array_equal(flat, deep[0])


def test_the_slices_of_a_flat_patch_are_transformed_alike():
    chance = {"rotation": Chance(1.0, (-3.0, 3.0)), "scaling": Chance(1.0, (0.7, 1.4))}
    image = jnp.broadcast_to(jax.random.normal(KEY, (12, 14, 2)), (3, 12, 14, 2))
    mask = jnp.broadcast_to(jax.random.randint(KEY, (12, 14, 1), -1, 4), (3, 12, 14, 1))
    for found in spatial.random_spatial(KEY, image, mask, settings((3, 8, 9), dummy_2d=True, **chance)):
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])


def test_rotation_and_scaling_are_drawn_by_themselves():
    chance = {"rotation": Chance(0.2, (-0.5, 0.5)), "scaling": Chance(0.2, (0.7, 1.4))}
    image = jax.random.normal(KEY, (6, 6, 6, 1))
    mask = jnp.zeros((6, 6, 6, 1), jnp.int32)

    @jax.jit
    @jax.vmap
    def transformed(key):
        return spatial.random_spatial(key, image, mask, settings((4, 4, 4), **chance))[0]

    found = transformed(jax.random.split(KEY, 2000))
    assert_share((found != spatial.crop(image, (4, 4, 4))).any((1, 2, 3, 4)), 1 - 0.8**2)


def test_coordinates_do_not_go_through_products_of_reduced_precision():
    chance = {"rotation": Chance(1.0, (-3.0, 3.0)), "scaling": Chance(1.0, (0.7, 1.4))}
    image, mask = jnp.zeros((6, 6, 6, 1)), jnp.zeros((6, 6, 6, 1), jnp.int32)

    def transform(image, mask):
        return spatial.random_spatial(KEY, image, mask, settings((4, 4, 4), **chance))

    assert not imprecise_products(transform, image, mask)

import dataclasses

from unet_jax.models.fast.native.geometry import NAMES, Geometry

IMAGES = Geometry(8, 3, 16, (1, 12, 10), (1, 10, 8), (1, 3, 3), (1, 1, 1), (0, 0, 0))
VOLUMES = Geometry(8, 3, 16, (4, 12, 10), (2, 6, 5), (3, 3, 3), (2, 2, 2), (1, 1, 1))


def test_a_groups_images_are_planes_of_one_volume():
    group = IMAGES.of_group(2)
    assert (group.batch, group.input, group.output) == (1, (4, 12, 10), (4, 10, 8))
    assert group.outputs == IMAGES.outputs // 2


def test_a_groups_volumes_stay_apart():
    assert VOLUMES.of_group(4) == dataclasses.replace(VOLUMES, batch=2)
    shifted = dataclasses.replace(IMAGES, before=(1, 0, 0))
    assert shifted.of_group(2) == dataclasses.replace(shifted, batch=4)


def test_counts_by_hand():
    assert VOLUMES.weights == 27 * 3 * 16
    assert VOLUMES.outputs == 8 * 2 * 6 * 5 * 16
    assert VOLUMES.products == VOLUMES.outputs * 27 * 3
    assert VOLUMES.read(2, 6) == (5, 13, 11)


def test_names_are_in_the_order_in_which_xla_hands_attributes_over():
    assert sorted(NAMES) == NAMES
    assert set(IMAGES.numbers()) < set(NAMES)
    assert IMAGES.numbers()["input_y"] == 12

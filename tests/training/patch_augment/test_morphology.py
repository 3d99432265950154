import jax
import jax.numpy as jnp
import numpy as np
import pytest
from patch_transforms import volume

from unet_jax.training.patch_augment.morphology import OPERATORS, dilate, operate

LARGEST = 8.0
dilated = jax.jit(lambda volume, radius: dilate(volume, radius, LARGEST))
operated = jax.jit(lambda volume, operator, radius: operate(volume, operator, radius, LARGEST))


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_are_nnunets(operator):
    found = operated(volume("bin_in"), jnp.int32(OPERATORS.index(operator)), jnp.float32(2.4))
    np.testing.assert_array_equal(found, volume(f"bin_{operator}_ball2.4"))


@pytest.mark.parametrize("radius", [1.0, 1.7, 2.4, 3.9])
def test_a_voxel_dilated_is_nnunets_ball(radius):
    ball = volume(f"ball_{radius}")
    points = len(ball)
    # An even ball has one more point before a dilated voxel, as the source correlates.
    begin = 10 - points // 2
    expected = np.zeros((21, 21, 21), bool)
    expected[(slice(begin, begin + points),) * 3] = ball
    voxel = np.zeros_like(expected)
    voxel[10, 10, 10] = True
    np.testing.assert_array_equal(dilated(voxel, jnp.float32(radius)), expected)


@pytest.mark.parametrize("radius", [1.2, 4.6, 7.3, 8.0])
def test_opening_and_closing_are_idempotent_and_on_their_side_of_the_volume(radius):
    # Of odd balls, which are symmetric.
    radius = (int(radius) + 0.2) if int(2 * radius + 1) % 2 == 0 else radius
    rng = np.random.default_rng(0)
    inside = np.zeros((24, 22, 20), bool)
    inside[5:20, 4:18, 4:16] = rng.random((15, 14, 12)) > 0.02
    opened, closed = (operated(inside, jnp.int32(place), jnp.float32(radius)) for place in (3, 2))
    assert not (opened & ~inside).any()
    assert not (inside & ~closed).any()
    np.testing.assert_array_equal(operated(opened, jnp.int32(3), jnp.float32(radius)), opened)
    np.testing.assert_array_equal(operated(closed, jnp.int32(2), jnp.float32(radius)), closed)


def test_nothing_stays_nothing_and_all_stays_all():
    for operator in range(4):
        for value in (False, True):
            found = operated(np.full((6, 7, 8), value), jnp.int32(operator), jnp.float32(3.3))
            assert (np.asarray(found) == value).all()

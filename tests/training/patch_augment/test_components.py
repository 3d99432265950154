import jax
import numpy as np
import pytest
from scipy import ndimage

from unet_jax.training.patch_augment.components import components, remove_one

numbered = jax.jit(components)
removed = jax.jit(remove_one, static_argnums=2)


def _spiral() -> np.ndarray:
    """One component whose ends are far apart along it."""
    inside = np.zeros((3, 33, 33), bool)
    for row in range(0, 33, 4):
        inside[1, row, :] = True
        inside[1, row : row + 5, 32 if row % 8 == 0 else 0] = True
    return inside


@pytest.mark.parametrize(
    "inside",
    [*(np.random.default_rng(0).random((9, 10, 11)) < share for share in (0, 0.02, 0.08, 0.2, 1)), _spiral()],
    ids=["none", "few", "some", "many", "all", "spiral"],
)
def test_components_are_scipys(inside):
    found = np.asarray(numbered(inside))
    expected, count = ndimage.label(inside, np.ones((3, 3, 3)))
    np.testing.assert_array_equal(found > 0, inside)
    # The same partition: each pair of numbers meets only each other.
    pairs = np.unique(np.stack([found[inside], expected[inside]]), axis=1)
    assert pairs.shape[1] == count == len(np.unique(found[inside]))


def test_one_of_the_small_components_is_removed_each_as_often():
    inside = np.zeros((6, 6, 6), bool)
    inside[:, :, :2] = True  # 72 voxels, too large
    inside[0, 0, 4] = inside[3:5, 3, 4] = inside[5, 5, 5] = True
    numbers, _ = ndimage.label(inside, np.ones((3, 3, 3)))
    lost = []
    for seed in range(60):
        after = np.asarray(removed(jax.random.key(seed), inside, 0.15))
        assert not (after & ~inside).any()
        [number] = np.unique(numbers[inside & ~after])
        np.testing.assert_array_equal(after, inside & (numbers != number))
        lost.append(number)
    names, counts = np.unique(lost, return_counts=True)
    assert len(names) == 3
    assert numbers[0, 0, 0] not in names
    assert counts.min() >= 8  # of 20 expected


@pytest.mark.parametrize("inside", [np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)], ids=["none", "too large"])
def test_nothing_is_removed_where_no_component_is_small(inside):
    np.testing.assert_array_equal(removed(jax.random.key(0), inside, 0.15), inside)


def test_a_component_of_exactly_the_share_stays():
    inside = np.zeros((2, 5, 2), bool)
    inside[0, 0, 0] = inside[0, 0, 1] = True  # 2 of 20
    np.testing.assert_array_equal(removed(jax.random.key(0), inside, 0.1), inside)
    assert not removed(jax.random.key(0), inside, 0.11).any()

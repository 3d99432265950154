import numpy as np
import pytest

from unet_jax.plan.spacing import coarse_axis, coarser, inverse, target_spacing, transposition


def cases(spacing, shape, axis=None, along=()):
    """Cases of one grid, but for the spacing along one axis."""
    spacings = np.array([spacing] * max(len(along), 1), np.float64)
    if axis is not None:
        spacings[:, axis] = along
    return spacings, np.array([shape] * len(spacings), np.float64)


TABLE = {
    "the median": (cases((1, 1, 1), (40, 40, 40), 1, (1, 2, 9)), (1, 2, 1)),
    "between two cases, their mean": (cases((1, 1, 1), (40, 40, 40), 2, (1, 2)), (1, 1, 1.5)),
    "10th percentile of a coarse axis": (cases((9, 1, 1), (10, 99, 99), 0, range(5, 16)), (6, 1, 1)),
    "exactly three times as long is not coarse": (cases((3, 1, 1), (10, 99, 99), 0, (2, 3, 4)), (3, 1, 1)),
    "exactly a third of the voxels is not few": (cases((9, 1, 1), (33, 99, 99), 0, (5, 9, 9)), (9, 1, 1)),
    "no finer than the others": (cases((9, 1, 2), (10, 99, 99), 0, (1, 9, 9)), (2.6, 1, 2)),
    "a hair above the others": (cases((9, 1, 2), (10, 99, 99), 0, (1, 1, 9, 9, 9)), (2.00001, 1, 2)),
}


@pytest.mark.parametrize("name", TABLE)
def test_target_spacing(name):
    (spacings, shapes), expected = TABLE[name]
    np.testing.assert_allclose(target_spacing(spacings, shapes), expected, rtol=1e-12)


def test_coarse_axis():
    assert coarse_axis(np.array([1.0, 1.0, 3.1]), np.array([100.0, 100.0, 33.0])) == 2
    assert coarse_axis(np.array([1.0, 1.0, 3.1]), np.array([100.0, 100.0, 34.0])) is None


@pytest.mark.parametrize(
    ("spacing", "order"),
    [((1, 1, 1), (0, 1, 2)), ((1, 3, 2), (1, 0, 2)), ((1, 2, 3), (2, 0, 1)), ((1, 3, 3), (1, 0, 2))],
)
def test_transposition_puts_the_coarsest_axis_first(spacing, order):
    assert transposition(np.array(spacing, np.float64)) == order
    assert [order[axis] for axis in inverse(order)] == [0, 1, 2]


def test_coarser_lets_fine_axes_catch_up():
    np.testing.assert_allclose(coarser(np.array([1.0, 1.9, 4.0])), [1.03, 1.9 * 1.03, 4.0])
    np.testing.assert_allclose(coarser(np.array([2.0, 3.0, 4.0])), [2.06, 3.09, 4.12])

import numpy as np
import pytest

from benchmarks import membranes

# Two cells of 4×4 with a membrane of two columns between them.
TRUTH = np.ones((4, 10), np.uint8)
TRUTH[:, 4:6] = 0


def test_what_is_right_is_perfect():
    assert membranes.scores(TRUTH, TRUTH) == (1, 0, 1)


def test_a_membrane_is_thinned_to_nothing():
    thin = np.ones((4, 10), np.uint8)
    thin[:, 4] = 0
    wide = np.ones((4, 10), np.uint8)
    wide[:, 2:8] = 0
    for predicted in (thin, wide):  # however wide it is, the pairs are those of two cells
        assert membranes.rand_score(predicted, TRUTH) == 1
    np.testing.assert_array_equal(membranes.thinned(wide), np.repeat([[1] * 5 + [2] * 5], 4, axis=0))


def test_two_cells_as_one_and_one_cell_as_two():
    """Merged: p_ij are (½, ½), s is 1: 2 · ½ / (1 + ½). Split: a quarter each of one cell: 2 · ½ / (½ + 1)."""
    merged = np.ones_like(TRUTH)
    assert membranes.rand_score(merged, TRUTH) == pytest.approx(2 / 3)
    assert membranes.rand_score(TRUTH, merged) == pytest.approx(2 / 3)
    dice, error, _ = membranes.scores(merged, TRUTH)
    assert (dice, error) == (0, pytest.approx(0.2))


def test_no_cell_at_all_is_one_cell():
    assert membranes.rand_score(np.zeros_like(TRUTH), TRUTH) == pytest.approx(2 / 3)


def test_pixels_of_true_membranes_do_not_count_in_the_rand_score():
    gap = TRUTH.copy()
    gap[0, 4] = 1  # a part of the membrane is called cell, without a bridge to the other one
    assert membranes.rand_score(gap, TRUTH) == 1
    assert membranes.scores(gap, TRUTH)[1] == pytest.approx(1 / 40)


def test_a_fold_is_scored_at_the_thresholds_of_the_others():
    """Two folds of one slice, each best at another threshold; the pixel error is best where it is least."""
    by_fold = [np.zeros((1, len(membranes.THRESHOLDS), 3)) for _ in range(2)]
    by_fold[0][0, 1], by_fold[1][0, 3] = (0.9, -0.9, 0.9), (0.8, -0.8, 0.8)
    by_fold[0][0, 3] = (0.3, -0.3, 0.4)
    np.testing.assert_allclose(membranes.nested(0, by_fold), [[0.3, -0.3, 0.4]])
    np.testing.assert_allclose(membranes.nested(1, by_fold), [[0, 0, 0]])
    lines = membranes.table(by_fold).splitlines()
    assert lines[0] == "| threshold | Dice of membranes | pixel error | Rand score |"
    assert lines[3] == "| 0.05 | 0.4500 | -0.4500 | 0.4500 |"
    assert lines[-1] == "| that of the other folds | 0.1500 | -0.1500 | 0.2000 |"

import numpy as np
import pytest

from unet_jax import metrics
from unet_jax.metrics import overlap


def counts(true_positive, false_positive, false_negative):
    return np.array([true_positive, false_positive, false_negative], np.int64)


def test_pixels_are_counted_slice_by_slice():
    predicted = np.array([[[1, 1, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, 0]]], np.uint8)
    truth = np.array([[[1, 0, 0], [1, 1, 1]], [[0, 1, 1], [0, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(metrics.count(predicted, truth), [[2, 1, 2], [0, 0, 2]])


def test_counts_exceed_what_the_masks_type_can_hold():
    full = np.ones((1, 20, 30), np.uint8)
    np.testing.assert_array_equal(metrics.count(full, full), [[600, 0, 0]])


def test_each_of_several_classes_is_counted_by_itself():
    predicted = np.array([[[1, 2, 0], [0, 0, 1]], [[0, 0, 0], [2, 2, 0]]], np.uint8)
    truth = np.array([[[2, 2, 0], [1, 1, 1]], [[0, 0, 0], [2, 0, 0]]], np.uint8)
    found = overlap.count_classes(predicted, truth, 3)
    assert found.tolist() == [[[1, 1, 2], [1, 0, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 0]]]
    for number in (1, 2, 3):
        alone = metrics.count(*((mask == number).astype(np.uint8) for mask in (predicted, truth)))
        np.testing.assert_array_equal(found[:, number - 1], alone)


def test_a_mean_is_over_what_is_defined():
    assert metrics.mean_of_defined([0.5, None, 1.0]) == 0.75
    assert metrics.mean_of_defined([None, None]) is None


@pytest.mark.parametrize(
    ("found", "dice", "iou", "precision", "recall"),
    [
        (counts(6, 2, 4), 12 / 18, 6 / 12, 6 / 8, 6 / 10),
        (counts(5, 0, 0), 1, 1, 1, 1),
        (counts(0, 3, 4), 0, 0, 0, 0),
        # nothing predicted: of nothing, no share can be right
        (counts(0, 0, 4), 0, 0, None, 0),
        # no tumour: of nothing, no share can be found
        (counts(0, 3, 0), 0, 0, 0, None),
        (counts(0, 0, 0), 1, 1, None, None),
    ],
)
def test_scores_have_their_closed_form(found, dice, iou, precision, recall):
    assert metrics.dice(found) == dice
    assert metrics.iou(found) == iou
    assert metrics.precision(found) == precision
    assert metrics.recall(found) == recall


def test_dice_is_the_harmonic_mean_of_precision_and_recall_and_grows_with_iou():
    for found in np.random.default_rng(0).integers(1, 1000, (50, 3)):
        precision, recall, iou = metrics.precision(found), metrics.recall(found), metrics.iou(found)
        assert metrics.dice(found) == pytest.approx(2 * precision * recall / (precision + recall))
        assert metrics.dice(found) == pytest.approx(2 * iou / (1 + iou))


def test_only_nothing_against_nothing_is_empty():
    assert metrics.is_empty(counts(0, 0, 0))
    assert not any(metrics.is_empty(counts(*one)) for one in np.eye(3, dtype=int))


def test_distribution_of_known_values():
    found = metrics.distribution([0.0, 0.5, 1.0, 0.9])
    assert found["mean"] == pytest.approx(0.6)
    assert found["median"] == pytest.approx(0.7)
    # deviations -.6, -.1, .4, .3: squares sum to .62, over n - 1
    assert found["std"] == pytest.approx((0.62 / 3) ** 0.5)


def test_a_single_value_has_no_spread():
    assert metrics.distribution([0.7]) == {"mean": 0.7, "median": 0.7, "std": 0.0, "ci95": [0.7, 0.7]}


def test_the_interval_of_two_values_is_known():
    # of two draws out of {0, 1}, a quarter are both 0 and a quarter both 1: far over 2.5 % each
    assert overlap.bootstrap_interval(np.array([0.0, 1.0])) == [0.0, 1.0]


def test_the_interval_follows_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(0.8, 0.1, 400)
    half_width = 1.96 * values.std() / 20
    expected = [values.mean() - half_width, values.mean() + half_width]
    np.testing.assert_allclose(overlap.bootstrap_interval(values), expected, atol=0.03 * half_width)


def test_the_interval_holds_the_mean_and_moves_with_the_values():
    rng = np.random.default_rng(2)
    for size in (2, 3, 11, 40):
        values = rng.random(size)
        low, high = overlap.bootstrap_interval(values)
        assert values.min() <= low <= values.mean() <= high <= values.max()
        np.testing.assert_allclose(overlap.bootstrap_interval(3 * values + 2), [3 * low + 2, 3 * high + 2])


def test_the_interval_is_the_same_on_every_call():
    values = np.random.default_rng(3).random(20)
    assert overlap.bootstrap_interval(values) == overlap.bootstrap_interval(values)


def test_specificity_is_the_share_of_the_background_that_was_left_alone():
    # 100 voxels, 10 of them tumour: 90 of background, of which 2 were predicted
    assert metrics.specificity(counts(6, 2, 4), 100) == 88 / 90
    assert metrics.specificity(counts(0, 0, 0), 100) == 1
    assert metrics.specificity(counts(7, 0, 3), 10) is None


def test_a_distribution_of_nothing_is_undefined():
    assert metrics.distribution([]) == {"mean": None, "median": None, "std": None, "ci95": None}

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
    found = overlap.count_classes(predicted, truth, [(1,), (2,), (3,)])
    assert found.tolist() == [[[1, 1, 2], [1, 0, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 0]]]
    for number in (1, 2, 3):
        alone = metrics.count(*((mask == number).astype(np.uint8) for mask in (predicted, truth)))
        np.testing.assert_array_equal(found[:, number - 1], alone)


def test_classes_that_overlap_are_counted_by_all_their_numbers():
    # The values 1, 2 and 4 of whole = 1 + 2 + 4, core = 1 + 4 and enhancing = 4, as the numbers 1, 2 and 3.
    truth = np.array([[[2, 1, 3, 0]]], np.uint8)
    predicted = np.array([[[2, 2, 1, 3]]], np.uint8)
    [found] = overlap.count_classes(predicted, truth, [(1, 2, 3), (1, 3), (3,)])
    assert found.tolist() == [[3, 1, 0], [1, 1, 1], [0, 1, 1]]
    assert [overlap.dice(of_class) for of_class in found] == [6 / 7, 1 / 2, 0]


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
        (counts(0, 0, 0), None, None, None, None),
    ],
)
def test_scores_have_their_closed_form(found, dice, iou, precision, recall):
    assert metrics.dice(found) == dice
    assert metrics.iou(found) == iou
    assert metrics.precision(found) == precision
    assert metrics.recall(found) == recall


def test_two_empty_masks_have_the_dice_that_is_asked_for():
    assert metrics.dice(counts(0, 0, 0), empty=1.0) == 1
    assert metrics.dice(counts(0, 0, 1), empty=1.0) == 0


def test_dice_is_the_harmonic_mean_of_precision_and_recall_and_grows_with_iou():
    for found in np.random.default_rng(0).integers(1, 1000, (50, 3)):
        precision, recall, iou = metrics.precision(found), metrics.recall(found), metrics.iou(found)
        assert metrics.dice(found) == pytest.approx(2 * precision * recall / (precision + recall))
        assert metrics.dice(found) == pytest.approx(2 * iou / (1 + iou))


def test_only_nothing_against_nothing_is_empty():
    assert metrics.is_empty(counts(0, 0, 0))
    assert not any(metrics.is_empty(counts(*one)) for one in np.eye(3, dtype=int))


def test_specificity_is_the_share_of_the_background_that_was_left_alone():
    # 100 voxels, 10 of them tumour: 90 of background, of which 2 were predicted
    assert metrics.specificity(counts(6, 2, 4), 100) == 88 / 90
    assert metrics.specificity(counts(0, 0, 0), 100) == 1
    assert metrics.specificity(counts(7, 0, 3), 10) is None

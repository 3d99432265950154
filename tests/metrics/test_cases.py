import functools

import numpy as np
import pytest
import scored_cases

from unet_jax import metrics
from unet_jax.data.case import Case
from unet_jax.inference import postprocess
from unet_jax.metrics import cases as scoring
from unet_jax.metrics import summary, surface

OFF = scored_cases.stages()


def case_of(mask, name="a", spacing=None):
    return Case(name, f"patient {name}", np.zeros((*mask.shape, 1), np.uint8), mask, spacing)


def box(size, *slices):
    mask = np.zeros(size, np.uint8)
    mask[slices] = 1
    return mask


def whole(*masks):
    """Predictions of whole cases, in their order."""
    return [(position, np.arange(len(mask), dtype=np.int32), mask) for position, mask in enumerate(masks)]


def test_scores_of_a_case_in_millimetres():
    truth = box((4, 8, 8), slice(1, 3), slice(2, 6), slice(2, 6))
    predicted = box((4, 8, 8), slice(1, 3), slice(2, 6), slice(2, 7))
    scores = scoring.whole_case_scores(predicted, truth, (5.0, 2.0, 2.0), tolerance=1.0)
    # 8 voxels of 20 mm³ more than 32
    assert scores["volume_difference"] == pytest.approx(0.16)
    assert scores["relative_volume_difference"] == 0.25
    # every voxel of two slices is surface: 8 of 40 predicted ones lie 2 mm off, and none of the 32 true ones
    assert scores["hd95"] == 2.0
    assert scores["average_surface_distance"] == pytest.approx(8 * 2 / 72)
    assert scores["surface_dice"] == pytest.approx(64 / 72)
    assert [scores[name] for name in scoring.LESIONS] == [1, 0, 0]
    assert set(scores) == set(scoring.WHOLE_CASE)


def test_volumes_count_voxels_without_a_spacing_and_have_no_ratio_to_nothing():
    predicted = box((2, 3, 3), 0, 0, slice(2))
    scores = scoring.whole_case_scores(predicted, np.zeros_like(predicted), None, tolerance=1.0)
    assert scores["volume_difference"] == 2
    assert scores["relative_volume_difference"] is None
    assert scores["hd95"] is None
    assert scoring.whole_case_scores(np.zeros_like(predicted), predicted, None, 1.0)["volume_difference"] == -2


def test_a_case_is_scored_by_pixels_as_by_its_slices_counts():
    rng = np.random.default_rng(0)
    predicted, truth = (rng.random((2, 3, 9, 7)) < 0.4).astype(np.uint8)
    scored = scoring.score_cases([case_of(truth)], whole(predicted), tolerance=1.0, stages=OFF)["as_predicted"]
    np.testing.assert_array_equal(scored.counts, metrics.count(predicted, truth))
    index = np.array([[0, 0], [0, 1], [0, 2]], np.int32)
    [expected] = summary.case_rows([case_of(truth)], index, scored.counts)
    assert scored.rows[0] | expected == scored.rows[0]
    background = (truth == 0).sum()
    assert expected["specificity"] == pytest.approx(((truth == 0) & (predicted == 0)).sum() / background)


def test_empty_rows_and_columns_change_no_score():
    rng = np.random.default_rng(1)
    for _ in range(5):
        predicted, truth = np.zeros((2, 5, 20, 24), np.uint8)
        top, left = rng.integers(0, 12, 2)
        for mask in (predicted, truth):
            mask[1:4, top : top + 8, left : left + 9] = rng.random((3, 8, 9)) < 0.5
        [row] = scoring.score_cases([case_of(truth)], whole(predicted), tolerance=1.0, stages=OFF)["as_predicted"].rows
        assert row | scoring.whole_case_scores(predicted, truth, None, 1.0) == row


def test_overlap_is_undefined_for_a_case_that_is_empty_in_both():
    empty = np.zeros((2, 4, 4), np.uint8)
    [row] = scoring.score_cases([case_of(empty)], whole(empty), tolerance=1.0, stages=OFF)["as_predicted"].rows
    assert (row["specificity"], row["volume_difference"]) == (1.0, 0)
    undefined = ("dice", "iou", "precision", "recall", "relative_volume_difference", "hd95", "surface_dice")
    assert [row[name] for name in undefined] == [None] * 7


def test_cases_whose_dice_is_undefined_come_after_the_best():
    rows = [{"case": name, "dice": dice} for name, dice in (("a", None), ("b", 1.0), ("c", 0.0), ("d", None))]
    assert [row["case"] for row in scoring.worst_first(rows)] == ["c", "b", "a", "d"]


def test_what_needs_the_whole_case_is_none_where_slices_are_missing():
    truth = box((4, 5, 5), slice(0, 3), 2, 2)
    numbers = np.array([0, 2], np.int32)
    scored = scoring.score_cases([case_of(truth)], [(0, numbers, truth[numbers])], tolerance=1.0, stages=OFF)
    [row] = scored["as_predicted"].rows
    assert (row["slices"], row["voxels"], row["dice"], row["true_positive"]) == (2, 50, 1.0, 2)
    assert [row[name] for name in scoring.WHOLE_CASE] == [None] * len(scoring.WHOLE_CASE)


def test_every_step_of_post_processing_is_scored_on_its_own():
    truth = box((1, 4, 12), 0, slice(0, 3), slice(0, 3))
    predicted = truth.copy()
    predicted[0, 0, 5] = 1  # one voxel
    predicted[0, 2, 8:12] = 1  # four
    scored = scoring.score_cases(
        [case_of(truth)],
        whole(predicted),
        tolerance=1.0,
        stages=scored_cases.stages(minimum_voxels=2, largest_component=True),
    )
    false = {stage: scores.rows[0]["lesions_false_positive"] for stage, scores in scored.items()}
    assert false == {"as_predicted": 2, "minimum_voxels": 1, "largest_component": 0}
    dice = [scores.rows[0]["dice"] for scores in scored.values()]
    assert dice == [18 / 23, 18 / 22, 1.0]
    np.testing.assert_array_equal(scored["minimum_voxels"].counts, [[9, 4, 0]])


def test_cases_have_one_unit_and_the_worst_stands_first():
    size, spacing = (3, 6, 6), (4.0, 0.5, 0.5)
    truth = box(size, 1, slice(1, 5), slice(1, 5))
    worse = box(size, 1, slice(1, 5), slice(1, 3))
    known = [case_of(truth, "a", spacing), case_of(truth, "b", spacing)]
    rows = scoring.score_cases(known, whole(truth, worse), tolerance=1.0, stages=OFF)["as_predicted"].rows
    assert [row["case"] for row in rows] == ["b", "a"]
    assert (rows[0]["distance_unit"], rows[0]["volume_unit"], rows[0]["hd95"]) == ("mm", "ml", 1.0)
    assert rows[0]["volume_difference"] == pytest.approx(-8 / 1000)
    mixed = [known[0], case_of(truth, "b", None)]
    rows = scoring.score_cases(mixed, whole(worse, truth), tolerance=1.0, stages=OFF)["as_predicted"].rows
    assert [(row["distance_unit"], row["volume_unit"]) for row in rows] == [("pixels", "voxels")] * 2
    assert rows[0]["hd95"] == 2.0
    assert rows[0]["hd95"] == surface.scores(worse, truth, None, 1.0)["hd95"]


def test_slices_are_counted_in_the_order_in_which_cases_come():
    truth = box((3, 2, 4), slice(0, 2), 0, slice(0, 2))
    predicted = box((3, 2, 4), slice(1, 3), 0, slice(1, 3))
    cases = [case_of(truth, "a"), case_of(np.zeros((1, 2, 4), np.uint8), "b")]
    numbers = np.array([1, 2], np.int32)
    found = [(1, np.array([0], np.int32), np.ones((1, 2, 4), np.uint8)), (0, numbers, predicted[numbers])]
    index, counts = scoring.count_slices(found, cases, ())
    assert index.tolist() == [[1, 0], [0, 1], [0, 2]]
    assert counts.tolist() == [[0, 8, 0], [1, 1, 1], [0, 2, 0]]
    index, counts = scoring.count_slices(found, cases, ("edema", "core"))
    assert index.tolist() == [[1, 0], [0, 1], [0, 2]]
    assert counts.tolist() == [[[0, 8, 0], [0, 0, 0]], [[1, 1, 1], [0, 0, 0]], [[0, 2, 0], [0, 0, 0]]]


@pytest.mark.parametrize("classes", [(), ("edema", "core")])
def test_ignored_pixels_count_nowhere(classes):
    """The scores are those of the case without the columns that are ignored."""
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 3 if classes else 2, (2, 3, 9, 12), np.uint8)
    # Beyond the edge there is nothing to be near to, as there would be without these columns.
    truth[..., 8:], predicted[..., 7:8], truth[..., 7:8] = 255, 0, 0
    options = {"tolerance": 1.0, "stages": OFF, "classes": classes}
    scored = scoring.score_cases([case_of(truth)], whole(predicted), **options)["as_predicted"]
    expected = scoring.score_cases([case_of(truth[..., :8])], whole(predicted[..., :8]), **options)["as_predicted"]
    assert scored.rows == expected.rows
    assert scored.rows[0]["voxels"] == 3 * 9 * 8
    np.testing.assert_array_equal(scored.counts, expected.counts)
    _, counts = scoring.count_slices(whole(predicted), [case_of(truth)], classes)
    np.testing.assert_array_equal(counts, expected.counts)


def test_what_is_ignored_is_left_out_after_post_processing():
    """Of two objects the larger one is kept, also where most of it is ignored."""
    truth = box((1, 4, 9), 0, slice(4), slice(2))
    truth[..., 4:] = 255
    predicted = box((1, 4, 9), 0, slice(4), slice(3, 9))
    predicted[0, 0, 0] = 1
    stages = scored_cases.stages(largest_component=True)
    found = scoring.score_cases([case_of(truth)], whole(predicted), tolerance=1.0, stages=stages)
    assert found["as_predicted"].counts.tolist() == [[1, 4, 7]]
    assert found["largest_component"].counts.tolist() == [[0, 4, 8]]


def test_classes_that_overlap_are_scored_in_the_mask_that_is_painted_of_them():
    rng, nested = np.random.default_rng(2), {"whole": (2, 1, 4), "core": (1, 4), "enhancing": (4,)}
    predicted, truth = (rng.integers(0, 4, (2, 3, 9, 9)) * (rng.random((2, 3, 9, 9)) < 0.3)).astype(np.uint8)
    settings = {"minimum_voxels": 3, "largest_component": True}
    stages = functools.partial(postprocess.stages_of_regions, settings=settings, classes=nested)
    found = scoring.score_cases([case_of(truth)], whole(predicted), tolerance=1.0, stages=stages, classes=nested)
    assert list(found) == ["as_predicted", "minimum_voxels", "largest_component"]
    for stage, mask in stages(predicted):
        for name, numbers in (("whole", (1, 2, 3)), ("core", (1, 3)), ("enhancing", (3,))):
            both = (np.isin(one, numbers).astype(np.uint8) for one in (mask, truth))
            expected = metrics.dice(metrics.count(*both).sum(0))
            assert found[stage].rows[0]["classes"][name]["dice"] == expected, (stage, name)

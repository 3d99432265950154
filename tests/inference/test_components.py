import numpy as np
from nnunet_choice import masks

from unet_jax.inference import components, postprocess


def test_the_largest_of_all_foreground_stays_as_in_nnunet():
    for predicted, expected in zip(masks("pred"), masks("postprocessed"), strict=True):
        np.testing.assert_array_equal(components.apply(predicted, [(1, 2)]), expected)


def test_labels_that_touch_are_one_component_when_taken_together():
    mask = np.array([[[1, 1, 2, 0, 2, 2, 0, 1]]], np.uint8)
    assert components.keep_largest(mask, (1, 2)).ravel().tolist() == [1, 1, 2, 0, 0, 0, 0, 0]
    assert components.keep_largest(mask, (2,)).ravel().tolist() == [1, 1, 0, 0, 2, 2, 0, 1]
    assert components.keep_largest(mask, ((1, 2),)).ravel().tolist() == [1, 1, 2, 0, 0, 0, 0, 0]
    assert components.apply(mask, [(2,), (1,)]).ravel().tolist() == [1, 1, 0, 0, 2, 2, 0, 0]
    assert components.apply(mask, []).tolist() == mask.tolist()


def test_equal_ones_all_stay_and_an_empty_mask_stays_empty():
    mask = np.array([[[1, 0, 1, 0, 2]]], np.uint8)
    assert components.keep_largest(mask, (1,)).tolist() == mask.tolist()
    assert not components.keep_largest(np.zeros_like(mask), (1, 2)).any()


def test_without_ties_one_label_is_cleaned_as_by_the_other_post_processing():
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = (rng.random((4, 9, 9)) < 0.15).astype(np.uint8)
        sizes = np.bincount(components.lesions.label(mask)[0].ravel())[1:]
        if np.count_nonzero(sizes == sizes.max()) == 1:
            np.testing.assert_array_equal(components.keep_largest(mask, (1,)), postprocess.keep_largest(mask))

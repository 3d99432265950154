import numpy as np
import pytest

from unet_jax.errors import InputError
from unet_jax.inference import postprocess
from unet_jax.metrics import lesions

OFF = {"minimum_voxels": 0, "largest_component": False}


def row(text):
    return np.array([[[character != "." for character in text]]], np.uint8)


MASK = row("##.###.#..####.")


@pytest.mark.parametrize(
    ("minimum", "expected"),
    [(1, "##.###.#..####."), (2, "##.###....####."), (4, "..........####."), (5, "...............")],
)
def test_components_below_the_minimum_are_removed(minimum, expected):
    np.testing.assert_array_equal(postprocess.remove_small(MASK, minimum), row(expected))


def test_the_largest_component_alone_is_kept():
    np.testing.assert_array_equal(postprocess.keep_largest(MASK), row("..........####."))


def test_of_components_of_one_size_the_first_is_kept():
    np.testing.assert_array_equal(postprocess.keep_largest(row(".##.##.#")), row(".##....."))


def test_components_go_through_the_slices():
    mask = np.zeros((3, 4, 4), np.uint8)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 1, 2] = 1  # 3 voxels, one a slice
    pair = mask.copy()
    pair[0, 3, 2:] = 1  # the most in any slice
    np.testing.assert_array_equal(postprocess.keep_largest(pair), mask)
    np.testing.assert_array_equal(postprocess.remove_small(pair, 3), mask)


def test_an_empty_mask_stays_empty():
    empty = np.zeros((2, 3, 3), np.uint8)
    np.testing.assert_array_equal(postprocess.keep_largest(empty), empty)
    np.testing.assert_array_equal(postprocess.remove_small(empty, 1), empty)


def test_what_is_left_of_random_masks_is_as_large_as_asked():
    rng = np.random.default_rng(0)
    for minimum in (2, 3, 5):
        mask = (rng.random((4, 7, 7)) < 0.1).astype(np.uint8)
        labels, number = lesions.label(mask)
        sizes = [int((labels == one).sum()) for one in range(1, number + 1)]
        left = postprocess.remove_small(mask, minimum)
        assert left.sum() == sum(size for size in sizes if size >= minimum)
        assert not (left & ~mask & 1).any()
        assert postprocess.keep_largest(mask).sum() == max(sizes)


def test_stages_are_the_steps_that_are_switched_on():
    both = {"minimum_voxels": 3, "largest_component": True}
    stages = dict(postprocess.stages(MASK, both))
    assert list(stages) == ["as_predicted", "minimum_voxels", "largest_component"]
    np.testing.assert_array_equal(stages["as_predicted"], MASK)
    np.testing.assert_array_equal(stages["minimum_voxels"], row("...###....####."))
    np.testing.assert_array_equal(stages["largest_component"], row("..........####."))
    assert list(dict(postprocess.stages(MASK, OFF | {"largest_component": True}))) == [
        "as_predicted",
        "largest_component",
    ]


def test_apply_gives_the_last_stage():
    np.testing.assert_array_equal(postprocess.apply(MASK, OFF), MASK)
    np.testing.assert_array_equal(postprocess.apply(MASK, OFF | {"minimum_voxels": 3}), row("...###....####."))
    largest = {"minimum_voxels": 3, "largest_component": True}
    np.testing.assert_array_equal(postprocess.apply(MASK, largest), row("..........####."))


def test_each_class_is_processed_by_itself():
    """Pieces of different classes that touch are no connected part."""
    mask = np.array([[[2, 2, 1, 1, 1, 2, 0, 0, 1, 3, 3, 3]]], np.uint8)
    found = postprocess.apply(mask, OFF | {"minimum_voxels": 2})
    assert found[0, 0].tolist() == [2, 2, 1, 1, 1, 0, 0, 0, 0, 3, 3, 3]
    assert found.dtype == np.uint8
    found = postprocess.apply(mask, OFF | {"largest_component": True})
    assert found[0, 0].tolist() == [2, 2, 1, 1, 1, 0, 0, 0, 0, 3, 3, 3]


def test_settings_that_cannot_be_used_are_refused():
    postprocess.check(OFF, "slice")
    postprocess.check({"minimum_voxels": 20, "largest_component": True}, "patient")
    with pytest.raises(InputError, match=r"config\.eval\.postprocess\.minimum_voxels is -1; it must be"):
        postprocess.check(OFF | {"minimum_voxels": -1}, "patient")
    for one in ({"minimum_voxels": 20}, {"largest_component": True}):
        with pytest.raises(InputError, match=r"needs whole cases, and config\.data\.split_by is 'slice'"):
            postprocess.check(OFF | one, "slice")


NESTED = {"whole": (2, 1, 4), "core": (1, 4), "enhancing": (4,)}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [2, 2, 1, 3, 2, 0, 1, 0, 2, 3]),
        # The core and what enhances in it, a voxel each, become edema; alone, they go.
        ({"minimum_voxels": 2}, [2, 2, 1, 1, 2, 0, 0, 0, 2, 2]),
        ({"largest_component": True}, [2, 2, 1, 3, 2, 0, 0, 0, 0, 0]),
    ],
    ids=str,
)
def test_classes_that_overlap_are_processed_one_by_one_and_painted_again(settings, expected):
    """The numbers 1, 2 and 3 are of the values 1, 2 and 4."""
    mask = np.array([[[2, 2, 1, 3, 2, 0, 1, 0, 2, 3]]], np.uint8)
    found = postprocess.apply(mask, OFF | settings, NESTED)
    assert found[0, 0].tolist() == expected
    assert found.dtype == np.uint8


def test_stages_of_regions_are_the_steps_that_are_switched_on():
    rng = np.random.default_rng(0)
    mask = (rng.integers(0, 4, (3, 8, 8)) * (rng.random((3, 8, 8)) < 0.3)).astype(np.uint8)
    both = {"minimum_voxels": 3, "largest_component": True}
    found = dict(postprocess.stages_of_regions(mask, both, NESTED))
    assert list(found) == ["as_predicted", "minimum_voxels", "largest_component"]
    np.testing.assert_array_equal(found["as_predicted"], mask)
    for step, settings in (("minimum_voxels", OFF | {"minimum_voxels": 3}), ("largest_component", both)):
        cleaned = [
            postprocess.apply(np.isin(mask, its).astype(np.uint8), settings) for its in ((1, 2, 3), (1, 3), (3,))
        ]
        expected = np.zeros_like(mask)
        for number, of_class in zip((2, 1, 3), cleaned, strict=True):
            expected[of_class > 0] = number
        np.testing.assert_array_equal(found[step], expected)

import numpy as np
import pytest

from unet_jax.metrics import lesions


def row(text):
    """A volume of one row, from characters: anything but a point is 1."""
    return np.array([[[character != "." for character in text]]], np.uint8)


def test_voxels_that_touch_by_a_corner_are_one_lesion():
    mask = np.zeros((3, 3, 3), np.uint8)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = 1
    assert lesions.label(mask)[1] == 1
    mask[1, 1, 1] = 0
    labels, number = lesions.label(mask)
    assert number == 2
    assert (labels[0, 0, 0], labels[2, 2, 2], labels[1, 1, 1]) == (1, 2, 0)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        ("##...#....", "##..##..##", (2, 0, 1)),
        # false ones, beside a found one and beside none
        ("#.##.#....", "#.........", (1, 2, 0)),
        # two pieces on one lesion find it once and neither is false
        ("##.##.....", "#####.....", (1, 0, 0)),
        # one piece over two lesions finds both
        ("#####.....", "##.##.....", (2, 0, 0)),
        # side by side is no match
        ("##........", "..##......", (0, 1, 1)),
        ("..........", "##.#......", (0, 0, 2)),
        ("##.#......", "..........", (0, 2, 0)),
        ("..........", "..........", (0, 0, 0)),
    ],
)
def test_lesions_match_by_a_shared_voxel(predicted, truth, expected):
    assert tuple(lesions.count(row(predicted), row(truth))) == expected


def test_counts_add_up_to_the_lesions_there_are():
    rng = np.random.default_rng(0)
    for _ in range(20):
        predicted, truth = (rng.random((2, 3, 6, 8)) < 0.15).astype(np.uint8)
        found, false, missed = lesions.count(predicted, truth)
        assert found + missed == lesions.label(truth)[1]
        assert 0 <= false <= lesions.label(predicted)[1]
        # with the masks changed over, what was missed is false
        assert lesions.count(truth, predicted)[1] == missed


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3])
def test_the_number_of_lesions_is_that_of_their_labels(density):
    rng = np.random.default_rng(0)
    for _ in range(5):
        mask = np.zeros((5, 9, 11), np.uint8)
        mask[1:4, 2:6, 3:10] = rng.random((3, 4, 7)) < density
        assert lesions.number(mask) == lesions.label(mask)[1]
        rest = mask.copy()
        rest[lesions.box(mask)] = 0
        assert not rest.any()


def test_the_box_is_the_smallest():
    mask = np.zeros((5, 9, 11), np.uint8)
    assert lesions.box(mask) == (slice(0, 1),) * 3
    mask[1, 8, 3] = mask[3, 2, 10] = 1
    assert lesions.box(mask) == (slice(1, 4), slice(2, 9), slice(3, 11))

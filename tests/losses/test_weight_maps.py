import itertools

import numpy as np
import pytest

from unet_jax.losses.weight_maps import balanced_class_weights, border_weight_map


def test_the_border_weight_is_the_papers_formula():
    # Columns 0-1 and 5-6 are objects: in the gap d1 + d2 is 1 + 3, 2 + 2 and 3 + 1.
    mask = np.zeros((3, 8), np.uint8)
    mask[:, :2] = mask[:, 5:7] = 1
    weights = border_weight_map(mask)
    border = 1 + 10 * np.exp(-(4**2) / (2 * 5**2))
    beyond = 1 + 10 * np.exp(-((1 + 6) ** 2) / (2 * 5**2))
    np.testing.assert_allclose(weights, [[1, 1, border, border, border, 1, 1, beyond]] * 3, rtol=1e-6)
    assert weights.dtype == np.float32


def _by_hand(mask, objects, class_weights, w0, sigma):
    """Distances of every pixel to every pixel of every object."""
    weights = np.empty(mask.shape)
    for place in itertools.product(*map(range, mask.shape)):
        if mask[place]:
            weights[place] = class_weights[1]
            continue
        distances = sorted(np.sqrt(((np.argwhere(o) - place) ** 2).sum(1).min()) for o in objects)
        weights[place] = class_weights[0] + w0 * np.exp(-(sum(distances[:2]) ** 2) / (2 * sigma**2))
    return weights


@pytest.mark.parametrize("shape", [(18, 40), (6, 10, 12)])
def test_random_objects(shape):
    rng = np.random.default_rng(0)
    objects = []
    mask = np.zeros(shape, np.uint8)
    while len(objects) < 5:
        corner = [rng.integers(side - 3) for side in shape]
        box = tuple(slice(start, start + rng.integers(1, 4)) for start in corner)
        margin = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        if not mask[margin].any():
            mask[box] = 1
            objects.append(np.zeros(shape, bool))
            objects[-1][box] = True
    # The small sigma leaves most objects outside of each other's reach.
    for settings in ({"w0": 10.0, "sigma": 5.0}, {"w0": 3.0, "sigma": 0.7}):
        expected = _by_hand(mask, objects, (0.6, 2.5), **settings)
        np.testing.assert_allclose(border_weight_map(mask, (0.6, 2.5), **settings), expected, rtol=1e-6)


def test_pixels_that_share_a_corner_are_two_objects():
    mask = np.array([[1, 0], [0, 1]], np.uint8)
    gap = 1 + 10 * np.exp(-(2**2) / (2 * 5**2))
    np.testing.assert_allclose(border_weight_map(mask), [[1, gap], [gap, 1]], rtol=1e-6)


@pytest.mark.parametrize("objects", [0, 1])
def test_without_two_objects_only_the_class_counts(objects):
    mask = np.zeros((6, 7), np.uint8)
    mask[2:4, 3:5] = objects
    expected = np.where(mask == 1, 3.0, 0.5)
    np.testing.assert_array_equal(border_weight_map(mask, (0.5, 3.0)), expected)


def test_a_full_mask_is_one_object():
    np.testing.assert_array_equal(border_weight_map(np.ones((4, 5), np.uint8), (0.5, 3.0)), 3)


def test_balanced_classes_weigh_the_same_over_all_masks():
    masks = [np.zeros((4, 5), np.uint8), np.zeros((2, 10), np.uint8)]
    masks[0][0, :4] = 1
    class_weights = balanced_class_weights(masks)
    assert class_weights == (pytest.approx(40 / (2 * 36)), pytest.approx(40 / (2 * 4)))
    maps = [border_weight_map(mask, class_weights) for mask in masks]
    foreground = sum(weights[mask == 1].sum() for weights, mask in zip(maps, masks, strict=True))
    assert foreground == pytest.approx(20)
    assert sum(weights.sum() for weights in maps) == pytest.approx(40)


@pytest.mark.parametrize("filled", [0, 1])
def test_classes_that_are_missing_cannot_be_balanced(filled):
    assert balanced_class_weights([np.full((3, 3), filled, np.uint8)]) == (1.0, 1.0)

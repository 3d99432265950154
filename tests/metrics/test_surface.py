from pathlib import Path

import numpy as np
import pytest

from unet_jax.metrics import surface

NAMES = ("hd95", "average_surface_distance", "surface_dice")


def mask_with(size, *voxels):
    mask = np.zeros(size, np.uint8)
    for voxel in voxels:
        mask[voxel] = 1
    return mask


def random_mask(rng, size=(4, 6, 5), share=0.3):
    return (rng.random(size) < share).astype(np.uint8)


@pytest.mark.parametrize("number", range(8))
def test_scores_equal_monai(number):
    with np.load(Path(__file__).parents[1] / "golden" / "surface.npz") as golden:
        found = surface.scores(
            golden[f"{number}/predicted"].astype(np.uint8),
            golden[f"{number}/truth"].astype(np.uint8),
            tuple(golden[f"{number}/spacing"].tolist()),
            float(golden[f"{number}/tolerance"]),
        )
        np.testing.assert_allclose([found[name] for name in NAMES], golden[f"{number}/scores"], atol=1e-5)


def test_distances_equal_those_of_every_pair_of_surface_voxels():
    rng, spacing = np.random.default_rng(0), (2.5, 0.5, 1.25)
    for _ in range(10):
        masks = random_mask(rng), random_mask(rng)
        points = []
        for mask in masks:
            padded = np.pad(mask, 1)
            neighbours = [np.roll(padded, step, axis) for step in (-1, 1) for axis in range(3)]
            points.append(np.argwhere(padded & ~np.min(neighbours, axis=0)) * spacing)
        pairs = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
        found = surface.distances(*masks, spacing)
        np.testing.assert_allclose(found[0], pairs.min(1), atol=1e-12)
        np.testing.assert_allclose(found[1], pairs.min(0), atol=1e-12)


def test_single_voxels_are_their_distance_apart_in_millimetres_or_pixels():
    predicted, truth = mask_with((6, 9, 9), (1, 2, 2)), mask_with((6, 9, 9), (3, 5, 2))
    in_mm = surface.scores(predicted, truth, (2.0, 1.0, 1.0), tolerance=4.9)
    assert in_mm == {"hd95": 5.0, "average_surface_distance": 5.0, "surface_dice": 0.0}
    in_pixels = surface.scores(predicted, truth, None, tolerance=4.9)
    assert in_pixels == pytest.approx(dict(zip(NAMES, (13**0.5, 13**0.5, 1.0), strict=True)))


def test_the_percentile_is_interpolated_and_the_larger_direction_counts():
    # from the 11 predicted voxels in a row to the one true voxel at its end: 0, 1, ..., 10
    predicted, truth = mask_with((1, 1, 11), (0, 0, slice(None))), mask_with((1, 1, 11), (0, 0, 0))
    assert surface.scores(predicted, truth, None, tolerance=3.0) == pytest.approx(
        # the way back is 0, so the mean is 55 over 12 voxels; 0, 1, 2, 3 and the way back are within 3
        {"hd95": 9.5, "average_surface_distance": 55 / 12, "surface_dice": 5 / 12}
    )


def test_a_mask_against_itself_is_perfect():
    mask = random_mask(np.random.default_rng(1))
    perfect = {"hd95": 0.0, "average_surface_distance": 0.0, "surface_dice": 1.0}
    assert surface.scores(mask, mask, (3.0, 1.0, 1.0), tolerance=0.0) == perfect


def test_scores_do_not_depend_on_which_mask_is_the_prediction():
    rng = np.random.default_rng(2)
    first, second = random_mask(rng), random_mask(rng)
    forth, back = (surface.scores(*pair, (3.0, 1.0, 1.0), 1.5) for pair in ((first, second), (second, first)))
    assert forth == pytest.approx(back)


def test_distances_grow_with_the_spacing():
    rng = np.random.default_rng(3)
    masks = random_mask(rng), random_mask(rng)
    small = surface.scores(*masks, (1.5, 0.5, 0.75), tolerance=1.0)
    large = surface.scores(*masks, (6.0, 2.0, 3.0), tolerance=4.0)
    assert [large[name] for name in NAMES] == pytest.approx(
        [4 * small["hd95"], 4 * small["average_surface_distance"], small["surface_dice"]]
    )


def test_a_distance_of_the_tolerance_is_within_it():
    # 3 * 0.9 - 2 * 0.9 is 0.9000000000000001
    predicted, truth = mask_with((1, 1, 5), (0, 0, 2)), mask_with((1, 1, 5), (0, 0, 3))
    assert surface.scores(predicted, truth, (1.0, 0.9, 0.9), tolerance=0.9)["surface_dice"] == 1


def test_the_volumes_edge_is_surface_and_what_lies_inside_is_not():
    full = np.ones((3, 4, 5), np.uint8)
    assert len(surface.distances(full, full, None)[0]) == 3 * 4 * 5 - 1 * 2 * 3


def test_a_picture_has_an_outline():
    square = mask_with((1, 7, 7), (0, slice(1, 6), slice(1, 6)))
    ring = square.copy()
    ring[0, 2:5, 2:5] = 0
    assert len(surface.distances(square, square, None)[0]) == 16
    assert surface.scores(square, ring, None, tolerance=0.0)["surface_dice"] == 1


def test_what_is_undefined_for_empty_masks_is_none():
    some, none = mask_with((2, 3, 3), (0, 1, 1)), np.zeros((2, 3, 3), np.uint8)
    missed = {"hd95": None, "average_surface_distance": None, "surface_dice": 0.0}
    assert surface.scores(none, some, None, 1.0) == missed
    assert surface.scores(some, none, None, 1.0) == missed
    assert surface.scores(none, none, None, 1.0) == missed | {"surface_dice": None}
    np.testing.assert_array_equal(surface.distances(some, none, None)[0], [np.inf])

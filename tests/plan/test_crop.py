from pathlib import Path

import numpy as np
import pytest

from unet_jax.plan.crop import bounding_box, crop_to_nonzero

# What nnU-Net 2.8.1 answers, on arrays [c, d, h, w].
GOLDEN = Path(__file__).parents[1] / "golden" / "nnunet" / "crop.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("labelled", [True, False])
def test_as_nnunet(golden, labelled):
    image = np.moveaxis(golden["image"], 0, -1)
    cropped, labels, box = crop_to_nonzero(image, golden["mask"][0] if labelled else None)
    np.testing.assert_array_equal(cropped, np.moveaxis(golden["cropped"], 0, -1))
    np.testing.assert_array_equal(labels, golden["labels" if labelled else "labels_without_mask"][0])
    np.testing.assert_array_equal(box, golden["box"])


@pytest.mark.parametrize("seed", range(8))
def test_the_outside_is_what_a_flood_from_beyond_the_edges_reaches(seed):
    rng = np.random.default_rng(seed)
    image = np.zeros((9, 11, 10, 2), np.float32)
    image[2:8, 1:9, 3:10] = rng.random((6, 8, 7, 2)) * (rng.random((6, 8, 7, 2)) < 0.45)
    mask = rng.integers(0, 3, image.shape[:3]).astype(np.uint8)
    before = mask.copy()
    _, labels, box = crop_to_nonzero(image, mask)

    # The flood, voxel by voxel, on the whole volume with a margin.
    empty = np.pad((image == 0).all(-1), 1, constant_values=True)
    reached = np.zeros_like(empty)
    todo = [(0, 0, 0)]
    while todo:
        place = todo.pop()
        if min(place) < 0 or (np.array(place) >= empty.shape).any() or reached[place] or not empty[place]:
            continue
        reached[place] = True
        todo += [tuple(np.add(place, step)) for axis in np.eye(3, dtype=int) for step in (axis, -axis)]
    inside = tuple(slice(start, stop) for start, stop in box)
    expected = mask.astype(int)
    expected[(mask == 0) & reached[1:-1, 1:-1, 1:-1]] = -1
    np.testing.assert_array_equal(labels, expected[inside])
    np.testing.assert_array_equal(mask, before)


def test_an_image_of_nothing_but_zeros_is_kept_whole():
    cropped, labels, box = crop_to_nonzero(np.zeros((2, 3, 4, 1), np.float32), None)
    assert box == ((0, 2), (0, 3), (0, 4))
    assert cropped.shape == (2, 3, 4, 1)
    assert (labels == -1).all()


def test_labels_beyond_127_stay():
    mask = np.full((1, 2, 2), 200, np.uint8)
    _, labels, _ = crop_to_nonzero(np.ones((1, 2, 2, 1), np.float32), mask)
    assert (labels == 200).all()


def test_a_hole_is_closed_in_3d_not_slice_by_slice():
    image = np.ones((3, 5, 5, 1), np.float32)
    image[:, 2, 2] = 0  # a tunnel, closed in each slice, open at both ends
    _, labels, _ = crop_to_nonzero(image, None)
    assert (labels[:, 2, 2] == -1).all()
    image[0, 2, 2] = image[2, 2, 2] = 1  # a bubble
    _, labels, _ = crop_to_nonzero(image, None)
    assert (labels == 0).all()


def test_bounding_box_is_half_open():
    nonzero = np.zeros((4, 5, 6), bool)
    nonzero[1, 2, 3] = nonzero[2, 2, 5] = True
    assert bounding_box(nonzero) == ((1, 3), (2, 3), (3, 6))

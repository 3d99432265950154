from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.data.reader import CaseFiles
from unet_jax.inference.writers import kinds, picture_masks

VALUES, MERGED = {"edema": (50,), "core": (1000,)}, {"edema": (50,), "core": (100, 150)}
REGIONS = {"whole": (2, 1, 4), "core": (1, 4), "enhancing": (4,)}
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        (None, ("mask", "probability")),
        ({}, ("mask", "probability")),
        (VALUES, ("mask", "probability_50", "probability_1000")),
        (MERGED, ("mask", "probability_1", "probability_2")),
        (REGIONS, ("mask", "probability_2", "probability_1", "probability_4")),
        ({"all": (1, 2), "a": (1,), "b": (2,)}, ("mask", "probability_1", "probability_2", "probability_3")),
    ],
)
def test_each_class_has_its_probabilities_under_its_value(classes, named):
    assert kinds.kinds(True, classes) == named
    assert kinds.kinds(False, classes) == ("mask",)


def test_probabilities_of_the_background_are_left_out():
    several = RANDOM.random((2, 3, 4, 3)).astype(np.float32)
    assert kinds.of_each(None, VALUES) == []
    [one] = kinds.of_each(several[..., 0], None)
    np.testing.assert_array_equal(one, several[..., 0])
    for found, expected in zip(kinds.of_each(several, VALUES), (several[..., 1], several[..., 2]), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_of_masks_hold_the_values_of_their_classes(suffix):
    files = CaseFiles("a", "a", (Path(f"a_1{suffix}"), Path(f"a_2{suffix}")), ())
    mask = RANDOM.integers(0, 3, (2, 5, 6), np.uint8)
    probability = RANDOM.dirichlet(np.ones(3), mask.shape).astype(np.float32)
    encoded = dict(picture_masks.encode(files, Path(), mask, probability, VALUES))
    assert list(encoded) == picture_masks.plan(files, True, VALUES)
    found = {
        path.stem: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for path, data in encoded.items()
    }
    for number in (0, 1):
        np.testing.assert_array_equal(found[f"a_{number + 1}_mask"], np.array([0, 50, 1000])[mask[number]])
        for channel, value in ((1, 50), (2, 1000)):
            wanted = np.rint(probability[number, ..., channel] * 65535)
            np.testing.assert_array_equal(found[f"a_{number + 1}_probability_{value}"], wanted)


def test_classes_that_overlap_come_without_a_background():
    several = RANDOM.random((2, 3, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(kinds.of_each(several, REGIONS), np.moveaxis(several, -1, 0))
    numbers = np.array([[[0, 1, 2, 3]]], np.uint8)
    assert kinds.as_labels(numbers, REGIONS).tolist() == [[[0, 1, 2, 4]]]

import json
import re

import cv2
import numpy as np
import pytest

from unet_jax.data import cache, phantom
from unet_jax.data.case import Case
from unet_jax.data.formats import lgg
from unet_jax.report import page as report_page
from unet_jax.report.case_view import brightness, compress, describe, outline, to_grey, within_budget

RANDOM = np.random.default_rng(0)


def corners(path):
    """The polygons of SVG path data, in pixels."""
    polygons = []
    for x, y, steps in re.findall(r"M(-?\d+) (-?\d+)l([-\d ]*)z", path):
        moves = np.array(steps.split(), int).reshape(-1, 2)
        polygons.append((np.cumsum(np.vstack([[int(x), int(y)], moves]), axis=0)) / 2)
    assert "".join("M" for _ in polygons) == re.sub("[^M]", "", path)
    return polygons


def inside(polygons, rows, columns):
    """Which pixels' middles lie in the polygons, by counting the sides that a ray to the right crosses."""
    x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    crossings = np.zeros((rows, columns), int)
    for polygon in polygons:
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y0 != y1:
                between = (np.minimum(y0, y1) <= y) & (y < np.maximum(y0, y1))
                crossings += between & (x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x)
    return crossings % 2 == 1


@pytest.mark.parametrize(
    ("top", "left", "rows", "columns"), [(3, 5, 4, 7), (0, 0, 1, 1), (0, 0, 16, 12), (15, 2, 1, 9)]
)
def test_the_outline_of_a_rectangle_has_its_four_corners(top, left, rows, columns):
    mask = np.zeros((16, 12), np.uint8)
    mask[top : top + rows, left : left + columns] = 1
    columns, rows = min(columns, 12 - left), min(rows, 16 - top)
    [polygon] = corners(outline(mask))
    expected = {(left, top), (left + columns, top), (left + columns, top + rows), (left, top + rows)}
    assert len(polygon) == 4
    assert set(map(tuple, polygon.tolist())) == expected


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8, 1])
def test_the_middles_inside_an_outline_are_the_masks_pixels(share):
    for _ in range(10):
        mask = (RANDOM.random((13, 17)) < share).astype(np.uint8)
        np.testing.assert_array_equal(inside(corners(outline(mask)), 13, 17), mask == 1)


def test_a_hole_has_an_outline_of_its_own_and_an_empty_mask_none():
    mask = np.ones((9, 9), np.uint8)
    mask[3:6, 4] = 0
    assert len(corners(outline(mask))) == 2
    assert outline(np.zeros((4, 4), np.uint8)) == ""


def test_pictures_are_close_to_their_slices():
    ramp = np.tile(np.linspace(0, 255, 64), (48, 1)).astype(np.uint8)
    decoded = cv2.imdecode(np.frombuffer(compress(ramp), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.shape == (48, 64)
    assert np.abs(decoded.astype(int) - ramp).max() <= 6


def test_large_pictures_are_shrunk_in_their_proportions():
    decoded = cv2.imdecode(np.frombuffer(compress(np.zeros((300, 1024), np.uint8)), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.shape == (150, 512)


def test_eight_bits_stay_and_floats_are_spread_over_black_to_white():
    bits = RANDOM.integers(0, 256, (3, 8, 8), np.uint8)
    assert to_grey(bits) is bits
    evenly = RANDOM.permutation(np.linspace(-3, 5, 8 * 64 * 64, dtype=np.float32)).reshape(8, 64, 64)
    grey = to_grey(evenly)
    assert grey.dtype == np.uint8
    assert (grey.min(), grey.max()) == (0, 255)
    assert np.median(grey) == pytest.approx(127.5, abs=3)
    assert (np.diff(grey.ravel()[np.argsort(evenly.ravel())].astype(int)) >= 0).all()
    assert not to_grey(np.full((1, 4, 4), 7, np.float32)).any()


def test_dark_cases_are_brightened_up_to_white_but_not_without_end():
    assert brightness(np.full((2, 16, 16), 100, np.uint8)) == pytest.approx(2.55)
    assert brightness(np.full((2, 16, 16), 255, np.uint8)) == 1
    assert brightness(np.zeros((2, 16, 16), np.uint8)) == 4


def test_the_description_is_of_the_scored_slices_alone():
    image = RANDOM.integers(0, 256, (5, 10, 20, 2), np.uint8)
    truth = np.zeros((5, 10, 20), np.uint8)
    truth[3, 2:6, 4:9] = 1
    predicted = np.zeros((2, 10, 20), np.uint8)
    predicted[1, 2:6, 5:11] = 1
    described = describe(Case("a", "p", image, truth, spacing=(5.0, 2.0, 0.5)), np.array([1, 3]), predicted)
    assert json.loads(json.dumps(described)) == described
    assert described["numbers"] == [1, 3]
    assert described["slices"] == 5
    assert described["size"] == [10, 20]
    assert described["aspect"] == pytest.approx(20 * 0.5 / (10 * 2))
    assert described["mm2"] == 1
    assert described["counts"] == [[0, 0, 0], [16, 8, 4]]
    assert [bool(path) for path in described["true"]] == [False, True]
    assert described["predicted"] == ["", outline(predicted[1])]
    assert [len(pictures) for pictures in described["pictures"]] == [2, 2]
    assert describe(Case("a", "p", image, truth), np.array([1, 3]), predicted)["mm2"] is None


def test_each_of_several_classes_has_outlines_and_counts():
    image = np.zeros((2, 10, 20, 1), np.uint8)
    truth = np.zeros((2, 10, 20), np.uint8)
    truth[1, 2:6, 4:9] = 1
    truth[1, 2:4, 4:6] = 2
    predicted = np.where(truth == 2, 1, 0).astype(np.uint8)
    described = describe(Case("a", "p", image, truth), np.arange(2), predicted, classes=("a", "b"))
    assert described["counts"] == [[[0, 0, 0], [0, 0, 0]], [[0, 4, 16], [0, 0, 4]]]
    assert described["true"][0] == described["predicted"][0] == ["", ""]
    of_each = [outline((truth[1] == number).astype(np.uint8)) for number in (1, 2)]
    assert described["true"][1] == of_each
    # What lies in the second class is predicted to be of the first.
    assert described["predicted"][1] == [of_each[1], ""]


def test_the_first_cases_have_pictures_until_the_budget_is_used_up():
    asked = []

    def scored():
        for name in "abcd":
            asked.append(name)
            image = RANDOM.integers(0, 256, (2, 16, 16, 1), np.uint8)
            empty = np.zeros((2, 16, 16), np.uint8)
            yield Case(name, name, image, empty), np.arange(2), empty

    size = len(next(iter(within_budget(scored(), 10**6).values())))
    asked.clear()
    texts = within_budget(scored(), int(2.5 * size))
    assert list(texts) == ["a", "b"]
    # what comes after is not even compressed
    assert asked == ["a", "b", "c"]
    assert within_budget(scored(), 10) == {}


def test_sixteen_patients_of_average_size_fit(tmp_path):
    phantom.write(tmp_path / "scans", seed=0, patients=1, size=256, slices=(5, 5))
    [case] = cache.load(lgg, tmp_path / "scans", tmp_path / "cache")[0]
    text = within_budget([(case, np.arange(5), np.asarray(case.mask))], report_page.BUDGET)[case.name]
    # LGG has 36 slices a patient
    assert 16 * 36 / 5 * len(text) <= report_page.BUDGET < 14.5e6


def test_nothing_is_drawn_or_counted_where_pixels_are_ignored():
    truth, predicted = np.zeros((2, 1, 8, 8), np.uint8)
    truth[0, 1:3, 1:3], predicted[0, 1:3, 1:3] = 1, 1
    image, numbers = np.zeros((1, 8, 8, 1), np.uint8), np.array([0])
    expected = describe(Case("a", "a", image, truth), numbers, predicted)
    marked = truth.copy()
    marked[0, 5:], predicted[0, 6:] = 255, 1
    found = describe(Case("a", "a", image, marked), numbers, predicted)
    assert found == expected

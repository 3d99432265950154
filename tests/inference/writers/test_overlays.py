from pathlib import Path

import cv2
import numpy as np

from unet_jax.colours import rgb_of
from unet_jax.data.case import Case
from unet_jax.data.reader import CaseFiles
from unet_jax.inference.writers import overlays


def test_only_a_masks_outermost_pixels_are_coloured():
    picture = np.full((7, 8, 3), 90, np.uint8)
    mask = np.zeros((7, 8), np.uint8)
    mask[0:4, 2:6] = 1  # up to the picture's edge
    expected = picture.copy()
    expected[0:4, 2:6] = overlays.OUTLINE
    expected[1:3, 3:5] = 90
    np.testing.assert_array_equal(overlays.draw(picture, mask), expected)
    assert (picture == 90).all()


def _decoded(files, case, mask, channel=None, classes=()):
    found = {}
    for path, data in overlays.encode(files, case, mask, channel, classes):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        found[path.as_posix()] = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return found


def test_a_picture_of_three_channels_keeps_its_colours_unless_one_is_chosen():
    image = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), np.uint8)
    files, case = CaseFiles("a.b", "a", (Path("x/a.b.jpg"),), ()), Case("a.b", "a", image, None)
    nothing = np.zeros((1, 4, 5), np.uint8)
    # 5 pixels become 515, the first multiple from 512 on.
    expected = image[0].repeat(103, 0).repeat(103, 1)
    np.testing.assert_array_equal(_decoded(files, case, nothing)["overlays/x/a.b.png"], expected)
    [grey] = _decoded(files, case, nothing, channel=1).values()
    np.testing.assert_array_equal(grey, np.repeat(expected[..., 1:2], 3, axis=-1))


def test_each_of_several_classes_is_outlined_in_its_colour():
    files, image = CaseFiles("a", "a", (Path("a.png"),), ()), np.full((1, 8, 9, 1), 90, np.uint8)
    mask = np.zeros((1, 8, 9), np.uint8)
    mask[0, 1:6, 1:5], mask[0, 2:7, 5:8] = 1, 2
    [picture] = _decoded(files, Case("a", "a", image, None), mask, classes=("a", "b")).values()
    expected = np.full((8, 9, 3), 90, np.uint8)
    expected[1:6, 1:5], expected[2:7, 5:8] = rgb_of(1), rgb_of(2)
    expected = expected.repeat(57, 0).repeat(57, 1)
    for rows, columns in (((1, 6), (1, 5)), ((2, 7), (5, 8))):
        expected[57 * rows[0] + 2 : 57 * rows[1] - 2, 57 * columns[0] + 2 : 57 * columns[1] - 2] = 90
    np.testing.assert_array_equal(picture, expected)


def test_slices_of_a_volume_are_counted_from_1_and_brightest_is_white():
    image = np.linspace(0, 2, 10 * 4, dtype=np.float32).reshape(10, 2, 2, 1)
    files, case = CaseFiles("anna", "a", (Path("anna.nii"),), ()), Case("anna", "a", image, None)
    found = _decoded(files, case, np.zeros((10, 2, 2), np.uint8))
    assert list(found) == [f"overlays/anna/{number:02d}.png" for number in range(1, 11)]
    assert found["overlays/anna/10.png"].max() == 255
    assert found["overlays/anna/01.png"].min() == 0

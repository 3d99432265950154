import cv2
import numpy as np
import pytest

from benchmarks import observers


def test_both_photographs_of_a_child_count_as_one(tmp_path):
    """The left: 2 of 4 pixels of the first observer, and no other; the right: 1 of 1, and 1 other."""
    first, second = np.zeros((2, 4, 4), np.uint8)
    first[0], second[0, :2] = 255, 255
    right, of_second = np.zeros((2, 4, 4), np.uint8)
    right[0, 0], of_second[0, :2] = 255, 255
    for name, mask in (("01L_1stHO", first), ("01L_2ndHO", second), ("01R_1stHO", right), ("01R_2ndHO", of_second)):
        assert cv2.imwrite(str(tmp_path / f"Image_{name}.png"), mask)
    counts = observers.counts_by_picture(tmp_path)
    assert {name: found.tolist() for name, found in counts.items()} == {"Image_01L": [2, 0, 2], "Image_01R": [1, 1, 0]}
    assert observers.dice_by_child(counts) == {"01": pytest.approx(2 * 3 / (2 * 3 + 1 + 2))}

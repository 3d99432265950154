import numpy as np

from benchmarks.resolution import redrawn


def test_a_mask_of_whole_pixels_comes_back_and_finer_ones_are_rounded():
    coarse = np.zeros((1, 8, 8), np.uint8)
    coarse[0, 2:6, 4:8] = 1
    np.testing.assert_array_equal(redrawn(np.kron(coarse, np.ones((1, 4, 4), np.uint8)), 32)[0, ::4, ::4], coarse[0])
    fine = np.zeros((1, 32, 32), np.uint8)
    fine[0, 9, 9] = 1  # a sixteenth of a pixel of the coarse grid
    assert not redrawn(fine, 8).any()

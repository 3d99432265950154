import numpy as np
import pytest

from unet_jax.data.case import Case
from unet_jax.data.slices import all_slices, slices_by_case


def _case(depth):
    return Case(str(depth), "a", np.zeros((depth, 2, 3, 1), np.uint8), None)


def test_every_slice_of_every_case_stands_in_order():
    found = all_slices([_case(2), _case(1), _case(3)])
    assert found.tolist() == [[0, 0], [0, 1], [1, 0], [2, 0], [2, 1], [2, 2]]
    assert found.dtype == np.int32


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ([[0, 0], [0, 1], [1, 0]], {0: [0, 1], 1: [0]}),
        ([[2, 4], [2, 1], [0, 3], [5, 0], [5, 7]], {2: [4, 1], 0: [3], 5: [0, 7]}),  # as they stand
        ([[0, 5]], {0: [5]}),
    ],
)
def test_the_slices_of_each_case(index, expected):
    found = slices_by_case(np.array(index, np.int32))
    assert {case: numbers.tolist() for case, numbers in found.items()} == expected
    assert list(found) == list(expected)


def test_what_all_slices_lists_comes_back_by_case():
    found = slices_by_case(all_slices([_case(depth) for depth in (3, 1, 2)]))
    assert {case: numbers.tolist() for case, numbers in found.items()} == {0: [0, 1, 2], 1: [0], 2: [0, 1]}

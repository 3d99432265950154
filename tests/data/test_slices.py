import numpy as np
import pytest

from unet_jax.data.case import Case
from unet_jax.data.slices import Slices, all_slices, slices_by_case


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


def test_a_hundred_thousand_cases_are_told_apart_in_one_pass():
    index = np.stack([np.arange(100_000).repeat(2), np.tile([0, 1], 100_000)], axis=1).astype(np.int32)
    compared = []

    class Watched(np.ndarray):
        """Notes the size of each array that is compared with a number."""

        def __eq__(self, other):
            compared.append(self.size)
            return np.ndarray.__eq__(self, other)

    found = slices_by_case(index.view(Watched))
    assert len(found) == 100_000
    assert sum(compared) <= index.size
    assert all(numbers.tolist() == [0, 1] for numbers in found.values())


def test_what_all_slices_lists_comes_back_by_case():
    found = slices_by_case(all_slices([_case(depth) for depth in (3, 1, 2)]))
    assert {case: numbers.tolist() for case, numbers in found.items()} == {0: [0, 1, 2], 1: [0], 2: [0, 1]}


def test_slices_where_all_that_is_marked_is_ignored_have_no_tumour():
    """And pixel weights are those of background there, but the batch's mask says what is ignored."""
    mask = np.zeros((3, 2, 3), np.uint8)
    mask[0, 0, 0], mask[1:, 1] = 1, 255
    mask[2, 0, 0] = 1
    slices = Slices([Case("a", "a", np.zeros((3, 2, 3, 1), np.uint8), mask)], weigh=lambda one: np.float32(one))
    assert slices.with_tumour().tolist() == [0, 2]
    batch = slices.gather([2])
    np.testing.assert_array_equal(batch["mask"][0], mask[2])
    assert batch["weights"][0].tolist() == [[1, 0, 0], [0, 0, 0]]

import pytest

from unet_jax.errors import InputError
from unet_jax.models.sizes import check_size, input_size_for


@pytest.mark.parametrize(("divisor", "margin"), [(1, 0), (8, 0), (1, 2), (4, 20), (16, 92)])
def test_the_input_is_the_smallest_that_fits_and_covers_the_output(divisor, margin):
    for output in range(1, 40):
        (n,) = input_size_for((output,), divisor, margin)
        check_size((n,), divisor, margin)
        assert 0 <= n - 2 * margin - output < divisor


def test_the_2015_paper():
    assert input_size_for((388, 388), 16, 92) == (572, 572)


def test_every_axis_may_have_its_own_divisor():
    assert input_size_for((5, 5, 5), (1, 4, 8)) == (5, 8, 8)
    check_size((5, 8, 8), (1, 4, 8))


@pytest.mark.parametrize(
    ("size", "divisor", "margin", "message"),
    [
        ((12, 16), 8, 0, r"\(12, 16\); every axis must divide by 8: use \(8, 16\) or \(16, 16\)\."),
        ((4, 4), 8, 0, r"\(4, 4\); .*: use \(8, 8\)\."),
        ((5, 6), (1, 4), 0, r"must divide by \(1, 4\): use \(5, 4\) or \(5, 8\)\."),
        ((570, 572), 16, 92, r"less 92 must divide by 16: use \(556, 572\) or \(572, 572\)\."),
        ((172, 172), 16, 92, r"\(172, 172\); .*: use \(188, 188\)\."),
    ],
)
def test_what_does_not_fit_is_told_what_does(size, divisor, margin, message):
    with pytest.raises(InputError, match=message):
        check_size(size, divisor, margin)

import pytest
from networks import layer_options

from unet_jax.errors import InputError
from unet_jax.models.layers import each_axis


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 1}, r"rank is 1; it must be 2 \(slices\) or 3 \(volumes\)"),
        ({"rank": 4}, r"rank is 4"),
        ({"init": "zero"}, r"init is 'zero'; .*torch, he"),
    ],
)
def test_an_option_out_of_range_is_named(options, message):
    with pytest.raises(InputError, match=message):
        layer_options(**options)


def test_one_number_stands_for_every_axis():
    assert each_axis(3, 2) == (3, 3)
    assert each_axis([1, 2, 2], 3) == (1, 2, 2)

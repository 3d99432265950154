from unet_jax import colours


def test_colours_are_given_in_order_and_come_again():
    found = [colours.colour_of(number) for number in range(1, 9)]
    assert len(set(found[:7])) == 7
    assert found[7] == found[0] == "#E69F00"
    assert colours.rgb_of(8) == colours.rgb_of(1) == (230, 159, 0)

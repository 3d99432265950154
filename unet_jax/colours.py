"""Colours that tell several classes apart, in pictures and on the report's page."""

# Told apart by people with any kind of colour vision (Okabe & Ito 2008); black, their eighth, would not show on images.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")


def colour_of(number: int) -> str:
    """The colour of class `number`, from 1, such as "#E69F00"; from the eighth on they come again."""
    return COLOURS[(number - 1) % len(COLOURS)]


def rgb_of(number: int) -> tuple[int, int, int]:
    """The same as red, green and blue, from 0 to 255."""
    red, green, blue = bytes.fromhex(colour_of(number).removeprefix("#"))
    return red, green, blue

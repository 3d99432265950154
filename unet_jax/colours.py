"""The colours of outlines, classes and curves, in pictures and on the report's page.

People with any kind of colour vision tell them apart, on grey and on white (Okabe & Ito 2008).
"""

TRUE, PREDICTED = "#009E73", "#E69F00"
TRAINING, VALIDATION = "#0072B2", "#D55E00"
# Of several classes; black, their eighth, would not show on images.
CLASSES = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")


def colour_of(number: int) -> str:
    """The colour of class `number`, from 1, such as "#E69F00"; from the eighth on they repeat."""
    return CLASSES[(number - 1) % len(CLASSES)]


def rgb_of(number: int) -> tuple[int, int, int]:
    """The colour of class `number` as `rgb` has it."""
    return rgb(colour_of(number))


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of a colour such as "#E69F00", from 0 to 255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue

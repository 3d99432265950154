"""Few sizes for all images: each is padded to one of a handful, so that no size has a program of its own.

What is padded does not count: the step is told how much of each image is the image, see `preprocess`. To which size an
image is padded depends on it alone, so that it is segmented alike in any company.
"""

# Pixels a side of the smallest. From 512 on there are steps between the powers of two, as padding costs memory.
SMALLEST, FINER = 128, 512


def padded(rows: int, columns: int, image_size: int | None) -> int | None:
    """The side of the square that a slice is padded to, at the bottom and at the right.

    Args:
        rows: of the slice, in pixels.
        columns: of the slice, in pixels.
        image_size: pixels a side of what the network sees; None pads nothing.

    Returns:
        pixels; None for a slice that stays as it is, such as one of the network's own size.
    """
    if image_size is None or rows == columns == image_size:
        return None
    side, longest = SMALLEST, max(rows, columns)
    while side < longest:
        halfway = side * 3 // 2
        side = halfway if side >= FINER and halfway >= longest else 2 * side
    return side

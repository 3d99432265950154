import cv2
import numpy as np
import pytest

from unet_jax.check.thumbnail import SIDE, thumbnail


def decoded(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


@pytest.mark.parametrize(
    ("shape", "spacing", "size"),
    [
        ((192, 96), None, (SIDE, SIDE // 2)),
        ((24, 24), None, (SIDE, SIDE)),
        ((48, 24), (5.0, 1.0, 2.0), (SIDE, SIDE)),  # as the body is: 48 mm by 48 mm
        ((1000, 2), None, (SIDE, 1)),
    ],
)
def test_its_longer_side_is_fixed_and_its_proportions_are_the_bodys(shape, spacing, size):
    image, mask = np.zeros((*shape, 1), np.uint8), np.zeros(shape, np.uint8)
    assert decoded(thumbnail(image, mask, (), 0, spacing)).shape == (*size, 3)


def green(picture):
    return (picture[..., 1] > picture[..., 0] + 60) & (picture[..., 1] > 100)


def test_outlines_are_drawn_and_a_lesion_of_one_pixel_stays_in_sight():
    image, mask = np.full((960, 960, 1), 90, np.uint8), np.zeros((960, 960), np.uint8)
    assert not green(decoded(thumbnail(image, mask, (), 0, None))).any()
    mask[405, 505] = 1
    rows, columns = np.nonzero(green(decoded(thumbnail(image, mask, (), 0, None))))
    assert set(rows) | set(columns) <= {39, 40, 41, 49, 50, 51}
    mask[200:400, 300:500] = 1
    outlined = green(decoded(thumbnail(image, mask, (), 0, None)))
    assert outlined[20:40, 30].all()
    assert outlined[20, 30:50].all()
    assert not outlined[23:37, 33:47].any()


def test_three_channels_without_names_are_colours():
    image, mask = np.zeros((96, 96, 3), np.uint8), np.zeros((96, 96), np.uint8)
    image[..., 0] = 200
    colour, grey = (decoded(thumbnail(image, mask, (), channel, None))[48, 48] for channel in (None, 0))
    assert colour[0] > 150 > 100 > colour[2]
    assert max(grey) - min(grey) < 8

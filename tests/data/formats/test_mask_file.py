from pathlib import Path

import numpy as np
import pytest

from unet_jax.data.formats.mask_file import union
from unet_jax.data.labels import IGNORED
from unet_jax.errors import InputError

PATHS = (Path("a.png"), Path("b.png"))


def of(*classes):
    return np.array([[classes]], np.uint8)


def test_masks_of_one_image_are_united():
    assert union([of(0, 1, 0, 2), of(0, 1, 2, 0)], PATHS)[0, 0].tolist() == [0, 1, 2, 2]
    with pytest.raises(InputError, match="1 pixel of another class"):
        union([of(1, 0), of(2, 0)], PATHS)


def test_what_one_of_the_masks_ignores_is_ignored():
    assert union([of(IGNORED, 1, 0), of(2, IGNORED, IGNORED)], PATHS)[0, 0].tolist() == [IGNORED] * 3

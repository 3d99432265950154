"""Fixtures that several test files share."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def write_scan() -> Callable[..., None]:
    """Writes one scan in the Kaggle LGG layout: image [d,h,w,3] in file order, mask [d,h,w] of 0 and 1."""

    def write(root: Path, name: str, image: np.ndarray, mask: np.ndarray, numbers=None) -> None:
        folder = root / name
        folder.mkdir(parents=True)
        for position, number in enumerate(numbers or range(1, len(image) + 1)):
            cv2.imwrite(str(folder / f"{name}_{number}.tif"), image[position, :, :, ::-1])
            cv2.imwrite(str(folder / f"{name}_{number}_mask.tif"), mask[position] * np.uint8(255))

    return write

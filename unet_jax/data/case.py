"""Case: one scan of one patient, and the checks it must pass."""

import dataclasses

import numpy as np
from jaxtyping import Float32, UInt8

from unet_jax.data.names import shown
from unet_jax.errors import InputError
from unet_jax.wording import count


@dataclasses.dataclass(frozen=True)
class Case:
    """One scan of one patient. A 2-D picture is a case of one slice.

    Attributes:
        name: unique in its data set; the folder's name for LGG.
        patient: whose scan it is. Splits and scores go by patient.
        image: slices, rows, columns, channels, in the files' own type and range.
        mask: of the image's size: 0 is background, 1 tumour; with several classes 1 is the first, 2 the second, and so
            on; `labels.IGNORED` what is left out. None where nobody drew one.
        spacing: millimetres between slices, rows and columns; None where the files do not say.

    Raises:
        InputError: image and mask differ in size, or the image is empty.
    """

    name: str
    patient: str
    image: UInt8[np.ndarray, "d h w c"] | Float32[np.ndarray, "d h w c"]
    mask: UInt8[np.ndarray, "d h w"] | None
    spacing: tuple[float, float, float] | None = None

    def __post_init__(self):
        if self.image.size == 0:
            raise InputError(f"{shown(self.name)}: the image has no pixel (its shape is {self.image.shape}).")
        if self.mask is not None and self.mask.shape != self.image.shape[:3]:
            raise InputError(
                f"{shown(self.name)}: the image is {self.image.shape[:3]} and the mask {self.mask.shape} "
                "(slices, rows, columns): they must agree."
            )


def check_finite(case: Case) -> None:
    """Checks every pixel of a newly decoded case.

    Raises:
        InputError: the image has NaN or infinite pixels; their slices are named, counted from 0.
    """
    if np.issubdtype(case.image.dtype, np.integer):
        return
    bad = ~np.isfinite(case.image)
    if bad.any():
        slices = np.flatnonzero(bad.any(axis=(1, 2, 3))).tolist()
        numbers = ", ".join(map(str, slices[:5])) + (", …" if len(slices) > 5 else "")
        pixels = count(int(np.count_nonzero(bad)), "pixel of the image is", "pixels of the image are")
        raise InputError(
            f"{shown(case.name)}: {pixels} NaN or infinite (slices {numbers}, counted from 0): restore or remove it."
        )

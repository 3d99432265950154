"""nnU-Net's transforms at fixed parameters, see tests/golden/make_nnunet_transforms.py, and settings to try ours."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from nnunet_answers import GOLDEN

from unet_jax.training.patch_augment.settings import CHANCES, AugmentSettings, Chance


@functools.cache
def _arrays() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "transforms.npz") as found:
        return dict(found)


def golden(name: str) -> Array:
    """An array, its channels last."""
    return jnp.asarray(np.moveaxis(_arrays()[name], 0, -1))


def volume(name: str) -> np.ndarray:
    """An array without channels."""
    return _arrays()[name]


def part(image: Array) -> np.ndarray:
    """The voxels of an image [d, h, w, c] that the golden file keeps."""
    channels, *axes = [slice(start, None, step) for start, step in _arrays()["part"].tolist()]
    return np.asarray(image)[(*axes, channels)]


def settings(patch, dummy_2d=False, **chances) -> AugmentSettings:
    """Everything off, and what `chances` switches on."""
    off = {name: Chance(0.0, (0.5, 1.0)) for name in (*CHANCES, "rotation")}
    given = off | {"mirror": 0.0, "mirror_axes": tuple(range(len(patch)))} | chances
    return AugmentSettings(patch=tuple(patch), dummy_2d=dummy_2d, **given)


def defaults(patch, dummy_2d=False, **changes) -> AugmentSettings:
    """nnU-Net's, with 30 degrees."""
    limit = math.radians(30)
    given = {"rotation": Chance(0.2, (-limit, limit)), "mirror_axes": tuple(range(len(patch)))} | changes
    return AugmentSettings(patch=tuple(patch), dummy_2d=dummy_2d, **given)


def assert_share(happened, probability: float) -> None:
    """Within five standard deviations of the binomial distribution."""
    spread = math.sqrt(probability * (1 - probability) / np.size(happened))
    assert abs(np.mean(happened) - probability) < 5 * spread

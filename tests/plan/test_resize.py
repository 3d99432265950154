"""Against scipy.ndimage's zoom with half-pixel centres, which skimage.transform.resize calls."""

import numpy as np
import pytest
from scipy import ndimage

from unet_jax.plan.resize import resize_slabs
from unet_jax.plan.resize_mask import resize_linear, resize_nearest


def zoom(volume, shape, order):
    factors = [m / n for n, m in zip(volume.shape, shape, strict=True)]
    return ndimage.zoom(volume, factors, order=order, mode="nearest", grid_mode=True)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("shape", [(50, 44, 90), (13, 20, 29), (60, 33, 29), (100, 7, 31), (1, 1, 1)])
def test_volumes(shape, order):
    volume = np.random.default_rng(0).normal(size=(60, 33, 29)).astype(np.float32) * 100
    expected = np.clip(zoom(volume.astype(np.float64), shape, order), volume.min(), volume.max())
    found = np.full(shape, np.nan)
    for rows, slab in resize_slabs(volume, shape, order):
        found[rows] = slab
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(40))
def test_label_maps(seed):
    rng = np.random.default_rng(seed)
    old, new = (tuple(rng.integers(1, high, 3).tolist()) for high in (20, 45))
    mask = rng.integers(-1, 4, old).astype(np.int8)
    labels = np.unique(mask)
    shares = np.stack([zoom((mask == label).astype(np.float64), new, 1).clip(0, 1) for label in labels])
    nearest = zoom(mask, new, 0)
    of_nearest = np.take_along_axis(shares, np.searchsorted(labels, nearest)[None], axis=0)[0]
    expected = np.where(of_nearest == shares.max(axis=0), nearest, labels[shares.argmax(axis=0)])
    np.testing.assert_array_equal(resize_linear(mask, new), expected)
    np.testing.assert_array_equal(resize_nearest(mask, new), nearest)

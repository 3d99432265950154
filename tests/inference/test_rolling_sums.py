import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.inference.rolling_sums import RollingSums, has_room
from unet_jax.inference.volume_windows import lay_out, schedule

ONE_DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


@pytest.mark.parametrize("patch", [(4, 5, 6), (7, 9)])
@pytest.mark.parametrize("size", [1, 3])
def test_sums_of_the_slices_under_way(patch, size):
    """The reference adds windows times shares to a whole volume."""
    random = np.random.default_rng(0)
    layout = lay_out((15, 11, 13), patch, 0.5, gaussian=True)
    every = np.arange(15)
    steps, depth = schedule(layout, size, every, every)
    assert depth < 15
    sums = RollingSums(layout, depth, 2, ONE_DEVICE)
    expected = np.zeros((*layout.padded, 2))
    for step in steps:
        slices = list(step.finished)
        found = np.asarray(sums.array)[sums.places(step.finished)]
        np.testing.assert_allclose(np.moveaxis(found[..., :11, :13], 1, -1), expected[slices], rtol=0, atol=1e-6)
        assert not found[..., 11:, :].any()
        sums.clear(step.retired)
        if not len(step.batch):
            break
        logits = random.normal(size=(size, *patch, 2)).astype(np.float32)
        sums.add(jnp.asarray(logits), step.batch)
        for (z, y, x), window in zip(step.batch.tolist(), logits, strict=False):
            shares = layout.shares[0][z][:, None, None] * layout.shares[1][y][:, None] * layout.shares[2][x]
            corner = (layout.starts[axis][at] for axis, at in enumerate((z, y, x)))
            place = tuple(slice(start, start + n) for start, n in zip(corner, layout.patch, strict=True))
            expected[place] += window.reshape(*layout.patch, 2) * shares[..., None]


def test_cases_of_about_one_size_share_their_programs():
    shapes = set()
    for height, width in ((33, 40), (48, 34), (41, 48)):
        layout = lay_out((20, height, width), (8, 16, 16), 0.5, gaussian=True)
        shapes.add(RollingSums(layout, 8, 3, ONE_DEVICE).array.shape)
    assert shapes == {(8, 3, 48, 48)}


def test_sums_take_half_of_the_free_memory():
    assert has_room(10**12, None)
    assert has_room(10**12, {"bytes_in_use": 5})
    assert has_room(29, {"bytes_limit": 100, "bytes_in_use": 40})
    assert not has_room(31, {"bytes_limit": 100, "bytes_in_use": 40})

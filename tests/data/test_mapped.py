import pickle

import numpy as np

from unet_jax.data import mapped, pool_index, pools


def travelled(arrays):
    """What arrives, and how many bytes travelled."""
    packed = pickle.dumps(mapped.by_name(arrays))
    return mapped.arrived(pickle.loads(packed)), len(packed)


def test_views_of_maps_travel_by_name_and_others_by_value(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 64, 64, 3), np.uint8)
    np.save(tmp_path / "image.npy", image)
    (tmp_path / "pools").mkdir()
    pools.write(tmp_path / "pools", [({}, {"a": image, "b": image.astype(np.float32)})])
    [pooled] = pools.open_arrays(tmp_path / "pools", pool_index.read(tmp_path / "pools"))
    loaded = np.load(tmp_path / "image.npy", mmap_mode="r")
    small = np.arange(6)
    arrays = [loaded, loaded[1:3], pooled["a"], pooled["b"], pooled["b"][2:], small, loaded[:, ::16, ::16]]
    found, size = travelled(arrays)
    assert size < small.nbytes + arrays[-1].nbytes + 1500
    for one, other in zip(found, arrays, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert not found[2].flags.writeable
    # One map a file, whatever the number of arrays.
    assert found[2].base is found[3].base

import dataclasses

import numpy as np
import pytest
from nnunet_arrays import answers

from unet_jax.data import pool_index, pools
from unet_jax.errors import InputError
from unet_jax.plan import foreground, patches
from unet_jax.plan.patches import Sampling
from unet_jax.plan.prepared import PreparedCase
from unet_jax.plan.preprocess import Geometry


def prepared(folder, shape, mask, keys, name="case"):
    image = np.random.default_rng(len(name)).normal(size=(*shape, 2)).astype(np.float32)
    found = foreground.locations(mask, keys).items()
    voxels = {f"locations {key}": places if len(places) else None for key, places in found}
    (folder / name).mkdir()
    pools.write(folder / name, [({}, {"image": image, "mask": mask, **voxels})])
    [record] = pool_index.read(folder / name)
    geometry = Geometry((1.0, 1.0, 1.0), shape, tuple((0, n) for n in shape))
    return PreparedCase(name, geometry, shape, tuple(keys), folder / name, record)


@pytest.mark.parametrize("seed", range(40))
def test_a_cut_is_a_cut_of_the_padded_volume(seed, tmp_path):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 12, 3).tolist())
    volume = rng.normal(size=(*shape, 2)).astype(np.float32)
    np.save(tmp_path / "volume.npy", volume)
    padded = np.pad(volume, [(30, 30)] * 3 + [(0, 0)], constant_values=7)
    for _ in range(20):
        begin, size = tuple(rng.integers(-15, 15, 3).tolist()), tuple(rng.integers(1, 15, 3).tolist())
        place = tuple(slice(30 + start, 30 + start + n) for start, n in zip(begin, size, strict=True))
        found = patches.cut(np.load(tmp_path / "volume.npy", mmap_mode="r"), begin, size, 7)
        np.testing.assert_array_equal(found, padded[place])


def test_a_cut_does_not_read_the_volume(tmp_path):
    # 64 GB, of which the file system stores nothing.
    volume = np.memmap(tmp_path / "volume", np.float32, "w+", shape=(4000, 2000, 2000, 1))
    volume[2000, 1000, 1000] = 5
    found = patches.cut(volume, (1990, 990, 990), (20, 20, 20), 0)
    assert found[10, 10, 10] == found.sum() == 5


@pytest.mark.parametrize("size", answers()["forced_foreground"])
def test_how_many_are_on_foreground_as_nnunet(size):
    sampling = Sampling(int(size), (8, 8, 8))
    forced = [patches.is_forced(row, sampling) for row in range(int(size))]
    assert sum(forced) == answers()["forced_foreground"][size]
    assert forced == sorted(forced)


@pytest.mark.parametrize(
    ("n", "size", "patch", "low", "high"),
    [
        # within: as large as the final patch, and no padding
        (20, 8, 8, 0, 12),
        # larger than the final patch by 5: 3 before, and as much after
        (20, 13, 8, -3, 10),
        (20, 12, 8, -2, 10),
        # the case is smaller: half of what is missing before
        (5, 8, 8, -2, -1),
        (6, 8, 8, -1, -1),
        # both: what is missing counts, if it is more
        (4, 13, 8, -5, -4),
    ],
)
def test_where_a_patch_may_begin(n, size, patch, low, high):
    rng = np.random.default_rng(0)
    found = {patches.place((n,) * 3, (size,) * 3, (patch,) * 3, None, rng)[at] for _ in range(400) for at in range(3)}
    assert (min(found), max(found)) == (low, high)
    assert found == set(range(low, high + 1))


@pytest.mark.parametrize(("centre", "expected"), [(10, 4), (1, -2), (19, 13)])
def test_about_a_voxel(centre, expected):
    # No earlier than anywhere else, but later: voxel 19 of 20 is in the middle of the patch.
    found = patches.place((20,) * 3, (12,) * 3, (8,) * 3, (centre,) * 3, np.random.default_rng(0))
    assert found == (expected,) * 3


def test_forced_patches_are_on_each_class_as_often(tmp_path):
    mask = np.zeros((30, 30, 30), np.int8)
    mask[2:25, 2:25, 2:25], mask[27, 27, 27] = 1, 2
    case = prepared(tmp_path, mask.shape, mask, [1, 2, 3])
    # The last of three is forced, and 5 voxels an axis have their centre in the middle.
    sampling = Sampling(3, (5, 5, 5))
    centres = [
        patches.batch([case], sampling, seed=4, step=step, rows=range(2, 3))["mask"][0, 2, 2, 2] for step in range(200)
    ]
    counts = {label: centres.count(label) for label in (1, 2)}
    assert sum(counts.values()) == 200
    assert 75 < counts[2] < 125


def test_with_an_ignored_label_all_patches_are_on_what_somebody_labelled(tmp_path):
    mask = np.full((30, 30, 30), 2, np.int8)
    mask[10:12, 10:12, 10:12], mask[10, 10, 10] = 0, 1
    case = prepared(tmp_path, mask.shape, mask, [1, (-1, 0, 1)])
    drawn = [patches.batch([case], Sampling(3, (5, 5, 5)), seed=0, step=step)["mask"][:, 2, 2, 2] for step in range(40)]
    assert set(np.ravel([batch[:2] for batch in drawn])) == {0, 1}
    assert set(np.ravel([batch[2:] for batch in drawn])) == {1}


def test_a_batch_is_a_function_of_seed_and_step(tmp_path):
    cases = []
    for number, shape in enumerate([(12, 14, 9), (5, 30, 20), (20, 6, 40)]):
        mask = np.random.default_rng(number).integers(-1, 3, shape).astype(np.int8)
        cases.append(prepared(tmp_path, shape, mask, [1, 2], f"case{number}"))
    sampling = Sampling(6, (8, 8, 8), drawn=(11, 12, 10))
    first = patches.batch(cases, sampling, seed=1, step=5)
    assert first["image"].shape == (6, 11, 12, 10, 2)
    assert first["mask"].shape == (6, 11, 12, 10)
    parts = [patches.batch(cases, sampling, seed=1, step=5, rows=rows) for rows in (range(2), range(2, 6))]
    for name, whole in first.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole)
    others = [patches.batch(cases, sampling, seed=seed, step=step) for seed, step in ((1, 6), (2, 5))]
    assert all((other["image"] != first["image"]).any() for other in others)


def test_slices(tmp_path):
    mask = np.zeros((9, 20, 20), np.int8)
    mask[4, 3, 16] = 1
    case = prepared(tmp_path, mask.shape, mask, [1])
    found = patches.batch([case], Sampling(3, (7, 7)), seed=0, step=0)
    assert found["image"].shape == (3, 7, 7, 2)
    assert found["mask"][2, 3, 3] == 1
    np.testing.assert_array_equal(found["image"][2], case.image[4, 0:7, 13:20])


def test_beyond_the_edges(tmp_path):
    case = prepared(tmp_path, (3, 3, 3), np.ones((3, 3, 3), np.int8), [1])
    found = patches.batch([case], Sampling(1, (5, 5, 5)), seed=0, step=0)
    inside = found["mask"][0] == 1
    assert inside.sum() == 27
    assert (found["mask"][0][~inside] == -1).all()
    assert (found["image"][0][~inside] == 0).all()


def test_no_case():
    with pytest.raises(InputError, match="no case to draw patches from"):
        patches.batch([], Sampling(1, (5, 5, 5)), seed=0, step=0)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sampling(1, (5, 5, 5)).patch = (1, 1, 1)

import pickle

import numpy as np
import pytest
from volumes import write

from unet_jax.data import pipeline
from unet_jax.data.load import load
from unet_jax.errors import InputError
from unet_jax.plan import run_plan, sources
from unet_jax.plan.patches import Sampling
from unet_jax.plan.prepared import prepare
from unet_jax.plan.training_patches import Patches

SETTINGS = {"data.source": "nifti", "data.patch": (8, 6, 10), "train.batch_size": 4}


@pytest.fixture(scope="module")
def patches(configure, tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    root = write(folder / "Dataset001_Balls", cases=4)
    config = configure(SETTINGS | {"data.root": str(root), "data.cache": str(folder / "cache")})
    data = load(config)
    _, plan = run_plan.resolve(config, data, folder)
    cases = prepare(
        sources.of_cases(data)[1:], plan.dataset, plan.plans, plan.configuration, folder / "cache", workers=1
    )
    return Patches(cases, np.array([1, 2, 3]), Sampling(4, (8, 6, 10)), seed=5)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


def test_a_patch_is_what_lies_at_its_place(patches):
    for step in range(10):
        batch = patches.at(step, range(4))
        assert (batch["image"].shape, batch["image"].dtype) == ((4, 8, 6, 10, 1), np.float32)
        assert (batch["mask"].shape, batch["mask"].dtype) == ((4, 8, 6, 10), np.int16)
        for image, mask, case, place in zip(*batch.values(), strict=True):
            of = patches.cases[case - 1]
            where = tuple(slice(20 + start, 20 + start + n) for start, n in zip(place, (8, 6, 10), strict=True))
            np.testing.assert_array_equal(image[..., 0], np.pad(of.image[..., 0], 20)[where])
            np.testing.assert_array_equal(mask, np.pad(of.mask, 20, constant_values=-1)[where])
        # A third of 4, as nnU-Net rounds it: the last one.
        assert batch["mask"][3, 4, 3, 5] > 0 or (batch["place"][3] <= 0).any()


def test_the_parts_of_two_processes_are_the_batch_of_one(patches):
    whole = patches.at(3, pipeline.share_of(4, 0, 1))
    parts = [patches.at(3, pipeline.share_of(4, shard, 2)) for shard in range(2)]
    assert_same(whole, {key: np.concatenate([part[key] for part in parts]) for key in whole})


def test_any_step_is_where_it_can_be_resumed(patches):
    def from_step(start):
        return list(pipeline.batches_of_steps(lambda step: patches.at(step, range(4)), range(start, 6)))

    whole = from_step(0)
    assert len(whole) == 6
    for start in range(7):
        resumed = from_step(start)
        assert len(resumed) == 6 - start
        for one, other in zip(whole[start:], resumed, strict=True):
            assert_same(one, other)


def test_they_travel_by_the_names_of_files(patches):
    packed = pickle.dumps(patches)
    assert len(packed) < 10_000
    assert_same(pickle.loads(packed).at(2, range(4)), patches.at(2, range(4)))


def test_there_must_be_cases():
    with pytest.raises(InputError, match="no case to draw patches from"):
        Patches([], np.array([], int), Sampling(2, (8, 8, 8)), seed=0)

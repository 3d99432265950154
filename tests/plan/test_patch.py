import dataclasses
import math

import numpy as np
import pytest
from nnunet_answers import data_set, planned

from unet_jax.errors import InputError
from unet_jax.plan import patch
from unet_jax.plan.dataset import from_json as dataset_of
from unet_jax.plan.fingerprint import from_json as fingerprint_of
from unet_jax.plan.planner import Settings, plan
from unet_jax.plan.presets import PRESETS

PRESET_OF = {preset.planner: name for name, preset in PRESETS.items()}
DEFAULT = PRESETS["default"]
# The one set that was planned for another memory, so that it has a cascade.
MEMORY_GB = {"real_cascade": 0.035}


@pytest.mark.parametrize(("name", "planner"), planned())
def test_every_patch_that_nnunet_considers_is_considered_in_its_order(name, planner, monkeypatch):
    answers, seen = data_set(name), []
    estimate = patch._estimate

    def noted(*arguments):
        found = estimate(*arguments)
        call = [list(found.patch), [list(stride) for stride in found.network.strides], found.activations]
        # nnU-Net asks once for each.
        if call not in seen:
            seen.append(call)
        return found

    monkeypatch.setattr(patch, "_estimate", noted)
    settings = Settings(PRESET_OF[planner], memory_gb=MEMORY_GB.get(name))
    plan(fingerprint_of(answers["fingerprint"]), dataset_of(answers["dataset"], name), settings)
    assert seen == [[call["patch"], call["strides"], call["estimate"]] for call in answers["estimates"][planner]]


@pytest.mark.parametrize("seed", range(20))
def test_a_patch_fits_and_the_one_before_does_not(seed):
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(2, 4))
    preset = PRESETS[list(PRESETS)[seed % 4]]
    spacing, median = rng.uniform(0.5, 3, axes).tolist(), rng.integers(20, 600, axes).tolist()
    found = patch.choose_patch(spacing, median, 1e12, classes=3, preset=preset, memory_gb=float(rng.uniform(1, 30)))
    reference = {2: 12, 3: 2}[axes]
    most = found.budget * reference / (2 if preset.fills_smallest_batch else reference)
    assert found.tried[-1].activations <= most
    assert all(each.activations > most for each in found.tried[:-1])
    assert all(
        n % math.prod(stride) == 0
        for n, stride in zip(found.patch, zip(*found.network.strides, strict=True), strict=True)
    )
    assert found.batch_size == max(2, found.batch_by_memory)


def test_a_batch_covers_a_twentieth_of_few_voxels():
    found = patch.choose_patch([1.0, 1.0, 1.0], [64, 64, 64], 100.0 * 64**3, classes=2, preset=DEFAULT, memory_gb=8)
    assert (found.patch, found.batch_by_coverage, found.batch_size) == ((64, 64, 64), 5, 5)
    all_of_it = dataclasses.replace(DEFAULT, coverage=1.0)
    found = patch.choose_patch([1.0, 1.0, 1.0], [64, 64, 64], 100.0 * 64**3, classes=2, preset=all_of_it, memory_gb=8)
    assert found.batch_size == found.batch_by_memory == round(560e6 / found.tried[-1].activations * 2)


def test_no_patch_fits_next_to_no_memory():
    with pytest.raises(
        InputError, match=r"config.plan.memory_gb=1e-07: no patch of a case of 40 × 40 × 40 voxels fits"
    ):
        patch.choose_patch([1.0, 1.0, 1.0], [40, 40, 40], 1e6, classes=2, preset=DEFAULT, memory_gb=1e-7)

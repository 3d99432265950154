from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from unet_jax.data import pipeline
from unet_jax.data.load import load
from unet_jax.data.slices import Slices
from unet_jax.errors import InputError
from unet_jax.models.pretrained import weights
from unet_jax.runtime.mesh import data_mesh
from unet_jax.training import setup

# Where a run has no split yet.
NO_SPLIT = Path("nowhere", "split.json")


def test_another_seed_draws_another_split_other_parameters_and_other_batches(settings, configure):
    drawn = []
    for seed in (5, 6):
        config = configure(settings | {"seed": seed})
        data = load(config)
        cases = data.cases
        split, _ = setup.choose_split(config, data, NO_SPLIT)
        _, state = setup.initial_state(config, 3, setup.optimizer_and_schedule(config, 1)[0], data_mesh())
        # Of all slices, so that it is not the split that tells them apart.
        batch = next(iter(pipeline.training_batches(Slices(cases), batch_size=4, seed=seed, epochs=1)))
        drawn.append((split.test, jax.tree.leaves(state.params), [batch["case"], batch["slice"]]))
    (one, its, these), (other, theirs, those) = drawn
    assert one != other
    assert not any(np.array_equal(*both) for both in zip(its, theirs, strict=True))
    assert not any(np.array_equal(*both) for both in zip(these, those, strict=True))


def test_a_seed_for_splits_keeps_the_split_of_another_seed(settings, configure):
    data = load(configure(settings))
    drawn = {
        (seed, of_split): setup.choose_split(
            configure(settings | {"seed": seed, "data.split_seed": of_split}), data, NO_SPLIT
        )[0]
        for seed in (5, 6)
        for of_split in (None, 5)
    }
    assert drawn[5, None] == drawn[5, 5] == drawn[6, 5] != drawn[6, None]


def test_training_starts_from_the_weights_it_is_given(settings, configure, tmp_path):
    config = configure(settings)
    optimizer, _ = setup.optimizer_and_schedule(config, 1)
    _, given = setup.initial_state(config, 3, optimizer, data_mesh())
    weights.save(tmp_path, given.params, given.batch_stats, {"name": "tutorial"})
    config = configure(settings | {"seed": 9, "train.initial_weights": str(tmp_path)})
    _, state = setup.initial_state(config, 3, optimizer, data_mesh())
    jax.tree.map(np.testing.assert_array_equal, state.params, given.params)


VOLUMES = {"model": {"name": "tutorial", "width": 2, "depth": 2, "rank": 3}, "data.slab": 16, "data.image_size": 8}
# Of one device eight times, on which nothing runs.
GROUPS_OF_4 = Mesh(np.full((2, 4), jax.devices()[0]), ("data", "space"))


@pytest.mark.parametrize(
    "changes",
    [VOLUMES, {"data.image_size": 16}, {"train.accumulate": 2}, {"train.batch_size": 16, "train.accumulate": 8}],
    ids=str,
)
def test_what_fits_the_slabs_and_parts_of_a_batch(configure, settings, changes):
    setup.check(configure(settings | changes), GROUPS_OF_4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train.batch_size": 3},
            r"batch_size is 3 and there are 8 devices in groups of 4 .* of 2, such as 4",
        ),
        ({"train.accumulate": 4}, r"batch_size is 4, config\.train\.accumulate 4 and .* multiple of 8, such as 8"),
        ({"train.accumulate": 0}, r"config\.train\.accumulate is 0; it must be at least 1"),
        (VOLUMES | {"data.slab": 12}, r"config\.data\.slab=12 has 12 samples: .* multiple of 4 × 2, .* such as 16"),
        ({"data.image_size": 20}, r"config\.data\.image_size=20 has 20 samples: .* such as 24"),
        ({"data.patch": (4, 16)}, r"first axis of config\.data\.patch=\(4, 16\) has 4 samples: .* such as 8"),
        ({"model.padding": "valid"}, r"config\.train\.spatial is \(4,\), .* pads nothing"),
        ({"model.norm": "batch", "train.accumulate": 2}, r"accumulate is 2, and the network normalises by the batch"),
        ({"model.remat": -1}, r"config\.model\.remat is -1"),
    ],
    ids=str,
)
def test_what_contradicts_slabs_and_parts_of_a_batch_is_said_in_a_line(configure, settings, changes, message):
    with pytest.raises(InputError, match=message) as raised:
        setup.check(configure(settings | changes), GROUPS_OF_4)
    assert "\n" not in str(raised.value)


def test_an_elastic_grid_has_an_outer_node_on_either_side(configure, settings):
    setup.check(configure(settings | {"augment.elastic.grid": 2}), data_mesh())
    with pytest.raises(InputError, match=r"^config\.augment\.elastic\.grid is 1; it must be at least 2, .*\.$"):
        setup.check(configure(settings | {"augment.elastic.grid": 1}), data_mesh())

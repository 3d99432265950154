import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unet_jax.errors import InputError, NumbersError
from unet_jax.run import checkpoint
from unet_jax.runtime import mesh
from unet_jax.training import state_on_disk
from unet_jax.training.step import init_state

MESH = mesh.data_mesh()
RECORD = {"data": "abc", "split": "def"}


def _state(step=0, *, averaged=False):
    """A state after `step` steps, with values of its own in every array."""
    params = {"head": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}
    state = init_state(params, {"norm": {"mean": jnp.zeros(3)}}, optax.adam(0.1), averaged=averaged)
    leaves, tree = jax.tree.flatten(state)
    filled = [np.full(leaf.shape, step + place / 100).astype(leaf.dtype) for place, leaf in enumerate(leaves)]
    state = jax.tree.unflatten(tree, filled).replace(step=np.int32(step), epochs=np.int32(step // 2))
    return jax.device_put(state, mesh.replicated(MESH))


@pytest.fixture
def folder(tmp_path):
    checkpoint.prepare(tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("averaged", [False, True])
def test_a_state_comes_back_to_the_bit_and_on_every_device(folder, averaged):
    for step in (3, 5):
        state_on_disk.save(folder, _state(step, averaged=averaged), None, RECORD)
    restored, warnings = state_on_disk.restore(folder, _state(averaged=averaged), MESH, RECORD)
    assert warnings == []
    jax.tree.map(np.testing.assert_array_equal, restored, _state(5, averaged=averaged))
    assert {leaf.sharding for leaf in jax.tree.leaves(restored)} == {mesh.replicated(MESH)}


def test_what_predicts_is_the_average_where_there_is_one(folder):
    for step, averaged in ((1, False), (2, True)):
        state = _state(step, averaged=averaged)
        state_on_disk.save(folder, state, None, RECORD)
        weights = dict(zip(("params", "batch_stats"), state.weights, strict=True))
        like = checkpoint.on_devices(weights, mesh.replicated(MESH))
        found = checkpoint.restore(folder, "newest", {"model": like}).items["model"]
        jax.tree.map(np.testing.assert_array_equal, found, weights)
    assert not np.array_equal(found["params"]["head"]["kernel"], state.params["head"]["kernel"])


def test_before_the_first_checkpoint_the_state_stays_as_it_is(tmp_path):
    state = _state()
    assert state_on_disk.restore(tmp_path / "missing", state, MESH, RECORD) == (state, [])


def test_a_damaged_checkpoint_is_named_and_set_aside_and_the_one_before_is_used(folder):
    for step in (3, 5):
        state_on_disk.save(folder, _state(step), None, RECORD)
    shutil.rmtree(folder / "5" / "training")
    restored, [warning] = state_on_disk.restore(folder, _state(), MESH, RECORD)
    jax.tree.map(np.testing.assert_array_equal, restored, _state(3))
    assert warning.startswith(f"checkpoint 5 in {folder} is damaged: ")
    assert sorted(path.name for path in folder.iterdir()) == ["3", "damaged-5"]


def test_a_state_that_is_not_finite_is_not_saved(folder):
    state = _state(4)
    state.params["head"]["bias"] = state.params["head"]["bias"].at[1].set(jnp.nan)
    with pytest.raises(NumbersError, match=r"after step 4 is NaN or infinite in model/params/head/bias, and was not"):
        state_on_disk.save(folder, state, None, RECORD)
    assert list(folder.iterdir()) == []


def test_a_checkpoint_of_another_split_is_refused(folder):
    state_on_disk.save(folder, _state(3), None, RECORD)
    with pytest.raises(InputError, match=r"split\.json is not the split that checkpoint 3 was trained with"):
        state_on_disk.restore(folder, _state(), MESH, RECORD | {"split": "other"})
    assert checkpoint.restore(folder, "newest", {}).record == RECORD | {"epochs": 1}


def test_leaves_that_are_not_finite_are_named():
    tree = {"a": {"kernel": np.array([1, np.nan], np.float32)}, "b": np.float32(3), "step": np.int32(1)}
    assert state_on_disk.nonfinite(tree) == ["a/kernel"]
    assert state_on_disk.nonfinite({"b": np.array([0, -np.inf], np.float32)}) == ["b"]
    assert state_on_disk.nonfinite({"b": np.float32(0)}) == []

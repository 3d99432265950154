import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unet_jax import checkpoint, sharding
from unet_jax.errors import InputError

REPLICATED = sharding.replicated(sharding.data_mesh())
OPTIMIZER = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(optax.constant_schedule(0.1)))


def _items(seed):
    """Trees such as a training state's, of random numbers."""
    rng = np.random.default_rng(seed)

    def array(*shape, dtype=jnp.float32):
        return jnp.asarray(rng.normal(size=shape), dtype)

    params = {"encoder": {"0": {"kernel": array(3, 3, 2)}}, "head": {"bias": array(4, dtype=jnp.bfloat16)}}
    opt_state = jax.tree.map(lambda x: x + array().astype(x.dtype), OPTIMIZER.init(params))
    return {
        "model": {"params": params, "batch_stats": {}},
        "training": {"step": jnp.int32(seed), "opt_state": opt_state},
    }


def _save(manager, *steps_and_scores):
    for step, score in steps_and_scores:
        checkpoint.save(manager, step, _items(step), score)


def _like(items):
    return checkpoint.on_devices(items, REPLICATED)


def _assert_restored(manager, step):
    saved = _items(step)
    restored = checkpoint.restore(manager, step, _like(saved))
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(saved), strict=True):
        assert one.dtype == other.dtype
        assert one.sharding == REPLICATED
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.fixture
def manager(tmp_path):
    with checkpoint.open_checkpoints(tmp_path / "checkpoints") as manager:
        yield manager


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with one checkpoint, for tests that only read."""
    folder = tmp_path_factory.mktemp("saved")
    with checkpoint.open_checkpoints(folder) as manager:
        _save(manager, (1, 0.5))
    return folder


@pytest.mark.parametrize(
    ("scores", "kept", "best"),
    [
        ([0.1, 0.2, 0.3], [3], 3),
        ([0.3, 0.2, 0.1], [1, 3], 1),
        ([0.1, 0.3, 0.2, None], [2, 4], 2),
        ([None, None], [2], None),
        ([None, 0.0, None], [2, 3], 2),
        ([0.5, 0.5, 0.5], [1, 3], 1),  # the earliest of equals, from which early stopping counts
        ([0.0, 0.0, 0.5, 0.5, 0.4], [3, 5], 3),
    ],
)
def test_the_newest_and_the_best_are_kept(tmp_path, scores, kept, best):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        _save(manager, *enumerate(scores, 1))
    with checkpoint.open_checkpoints(tmp_path) as manager:
        assert sorted(manager.all_steps()) == kept
        assert (manager.latest_step(), manager.best_step()) == (len(scores), best)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == kept


def test_the_best_of_an_earlier_process_stays_the_best(tmp_path):
    for number, score in enumerate([0.5, 0.9, 0.9, 0.7], 1):
        with checkpoint.open_checkpoints(tmp_path) as manager:
            _save(manager, (number, score))
    with checkpoint.open_checkpoints(tmp_path) as manager:
        assert (sorted(manager.all_steps()), manager.best_step()) == ([2, 4], 2)


def test_what_is_restored_is_what_was_saved_to_the_bit(manager):
    _save(manager, (1, 0.5), (2, None))
    for step in (1, 2):
        _assert_restored(manager, step)


def test_another_process_restores_the_same(saved):
    with checkpoint.open_checkpoints(saved) as manager:
        _assert_restored(manager, 1)


def test_saving_keeps_a_copy_of_its_own(manager):
    """The state's memory is donated to the next step as soon as `save` returns."""
    items = jax.tree.map(jnp.copy, _items(1))
    checkpoint.save(manager, 1, items, 0.5)
    for leaf in jax.tree.leaves(items):
        leaf.delete()
    _assert_restored(manager, 1)


def test_the_model_alone_can_be_restored(saved):
    model = _items(1)["model"]
    with checkpoint.open_checkpoints(saved, read_only=True) as manager:
        restored = checkpoint.restore(manager, 1, {"model": _like(model)})
    assert list(restored) == ["model"]
    jax.tree.map(np.testing.assert_array_equal, restored["model"], model)


def test_every_leaf_that_does_not_fit_is_named(saved):
    like = _items(1)
    params = like["model"]["params"]
    params["encoder"]["0"] = {"kernel": jnp.zeros((3, 3, 8)), "bias": jnp.zeros(8)}
    params["head"] = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(4)}
    with (
        checkpoint.open_checkpoints(saved, read_only=True) as manager,
        pytest.raises(InputError) as error,
    ):
        checkpoint.restore(manager, 1, _like(like))
    head, *faults = str(error.value).splitlines()
    assert f"{saved}/1, model does not fit" in head
    assert faults == [
        "  params/encoder/0/bias: found nothing, needed float32 (8,)",
        "  params/encoder/0/kernel: found float32 (3, 3, 2), needed float32 (3, 3, 8)",
        "  params/head/bias: found bfloat16 (4,), needed float32 (4,)",
        "  params/head/kernel: found nothing, needed float32 (2, 2)",
    ]


def test_a_leaf_that_nobody_asked_for_is_named(saved):
    like = _items(1)
    del like["training"]["opt_state"][0].mu["head"]
    with (
        checkpoint.open_checkpoints(saved, read_only=True) as manager,
        pytest.raises(InputError, match="training does not fit") as error,
    ):
        checkpoint.restore(manager, 1, _like(like))
    [fault] = str(error.value).splitlines()[1:]
    assert fault == "  opt_state/0/mu/head/bias: found bfloat16 (4,), needed nothing"


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What the folder looks like at each moment at which the second of two saves could be killed."""
    folder = tmp_path_factory.mktemp("killed")
    moments, rename = [], os.rename

    def rename_after_a_copy(source, target):
        moments.append(folder / f"moment{len(moments)}")
        shutil.copytree(folder / "checkpoints", moments[-1])
        rename(source, target)

    with (
        checkpoint.open_checkpoints(folder / "checkpoints") as manager,
        pytest.MonkeyPatch.context() as patch,
    ):
        _save(manager, (1, 0.5))
        patch.setattr(os, "rename", rename_after_a_copy)
        _save(manager, (2, 0.9))
    return moments


def test_a_save_that_was_killed_leaves_the_one_before(killed, tmp_path):
    assert len(killed) > 1
    for moment in killed:
        assert any("tmp" in path.name for path in moment.iterdir())
        folder = Path(shutil.copytree(moment, tmp_path / moment.name))
        with checkpoint.open_checkpoints(folder) as manager:
            assert (manager.all_steps(), manager.best_step()) == ([1], 1)
            _assert_restored(manager, 1)
            _save(manager, (2, 0.9))
            _assert_restored(manager, 2)
        assert [path.name for path in folder.iterdir()] == ["2"]


def test_reading_does_not_disturb_a_save_that_is_under_way(killed):
    for moment in killed:
        before = sorted(moment.rglob("*"))
        with checkpoint.open_checkpoints(moment, read_only=True) as manager:
            assert (manager.all_steps(), manager.best_step()) == ([1], 1)
            _assert_restored(manager, 1)
        assert sorted(moment.rglob("*")) == before


def test_reading_a_folder_without_checkpoints_finds_none_and_makes_none(tmp_path):
    with checkpoint.open_checkpoints(tmp_path / "missing", read_only=True) as manager:
        assert (manager.latest_step(), manager.best_step()) == (None, None)
    assert not (tmp_path / "missing").exists()

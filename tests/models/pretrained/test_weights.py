import re

import jax
import numpy as np
import pytest

from unet_jax.errors import InputError
from unet_jax.models.pretrained import weights


def normal(*shape) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture
def trees() -> tuple[dict, dict]:
    params = {
        "encoder": {0: {"conv1": {"kernel": normal(3, 3, 1, 2)}}, 1: {"norm1": {"scale": normal(2)}}},
        "head": {"bias": normal(1)},
    }
    return params, {"encoder": {1: {"norm1": {"mean": normal(2)}}}}


def test_what_was_saved_is_loaded(tmp_path, trees):
    weights.save(tmp_path / "new", *trees, {"name": "tutorial"})
    jax.tree.map(np.testing.assert_array_equal, weights.load(tmp_path / "new"), trees)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["model.json", "weights.npz"]


def test_a_network_without_statistics(tmp_path, trees):
    weights.save(tmp_path, trees[0], {}, {})
    assert weights.load(tmp_path)[1] == {}
    assert weights.initialise(trees[0], {}, tmp_path)[1] == {}


def test_initialising_replaces_what_the_folder_has(tmp_path, trees):
    weights.save(tmp_path, {"head": {"bias": np.full(1, 7, np.float32)}}, {}, {})
    params, stats = weights.initialise(*trees, tmp_path)
    assert params["head"]["bias"] == 7
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], trees[0]["encoder"])
    jax.tree.map(np.testing.assert_array_equal, stats, trees[1])


def test_arrays_that_do_not_fit_are_all_listed(tmp_path, trees):
    params = {"head": {"bias": normal(2), "kernel": normal(1)}, "encoder": trees[0]["encoder"]}
    weights.save(tmp_path, params, {"encoder": {0: {"mean": normal(3)}}}, {})
    with pytest.raises(InputError) as error:
        weights.initialise(*trees, tmp_path)
    assert str(error.value).splitlines() == [
        f"{tmp_path / 'weights.npz'} does not fit config.model; see model.json:",
        "  params/head/bias: found (2,), needed (1,)",
        "  params/head/kernel: found (1,), needed nothing",
        "  batch_stats/encoder/0/mean: found (3,), needed nothing",
    ]


def test_a_missing_folder_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError, match=r"none/weights\.npz cannot be read.*torch_weights makes it"):
        weights.load(tmp_path / "none")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, trees):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rf"{re.escape(str(tmp_path / 'file'))} cannot be written"):
        weights.save(tmp_path / "file", *trees, {})


def test_every_flipped_bit_of_an_array_is_noticed(tmp_path, trees):
    weights.save(tmp_path, *trees, {})
    path = tmp_path / "weights.npz"
    whole = path.read_bytes()
    array = trees[0]["encoder"][0]["conv1"]["kernel"].tobytes()
    for position in range(whole.index(array), whole.index(array) + len(array)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged"):
            weights.load(tmp_path)


def test_a_cut_file_is_damaged(tmp_path, trees):
    weights.save(tmp_path, *trees, {})
    path = tmp_path / "weights.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged"):
        weights.load(tmp_path)

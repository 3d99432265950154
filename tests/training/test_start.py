import jax
import numpy as np
import pytest

import unet_jax
from unet_jax.data.load import load
from unet_jax.errors import InputError
from unet_jax.inference.network import load_network
from unet_jax.run.config import read_config
from unet_jax.runtime.mesh import data_mesh
from unet_jax.share.pack import pack
from unet_jax.training import setup
from unet_jax.training.train import train

OPTIONS = {"train.epochs": 1, "train.tensorboard": False, "model.norm": "batch"}


@pytest.fixture(scope="module")
def run(settings, configure, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "run"
    train(configure(settings | OPTIONS), folder)
    return folder


def start(config, data, told=None):
    optimizer, _ = setup.optimizer_and_schedule(config, 1)
    say = (lambda line: None) if told is None else told.append
    return setup.initial_state(config, data.channels, optimizer, data_mesh(), data=data, say=say)[1]


def test_a_start_from_a_run_that_differs_in_nothing_is_that_run(run, settings, configure, tmp_path):
    pack(run, tmp_path / "model.zip")
    _, restored = load_network(run, read_config(run), data_mesh())
    for given in (run, tmp_path / "model.zip"):
        config = configure(settings | OPTIONS | {"seed": 8, "train.initial_weights": str(given)})
        told = []
        state = start(config, load(config), told)
        for kind in ("params", "batch_stats"):
            jax.tree.map(np.testing.assert_array_equal, getattr(state, kind), restored.items["model"][kind])
        arrays = len(jax.tree.leaves(restored.items["model"]))
        assert len(told) == 1
        assert f"Starting from {given}, step {restored.step}: {arrays} arrays" in told[0]
        assert "are copied, 0 adapted, 0 fresh, 0 of its own left out." in told[0]


def test_a_wider_network_takes_what_fits_and_says_so(run, settings, configure):
    told = []
    config = configure(settings | OPTIONS | {"model.depth": 3, "train.initial_weights": str(run)})
    state = start(config, load(config), told)
    source = load_network(run, read_config(run), data_mesh())[1].items["model"]["params"]
    jax.tree.map(np.testing.assert_array_equal, state.params["encoder"][0], source["encoder"][0])
    assert any(line.startswith("  fresh: params/decoder/0/") for line in told), told


def test_a_run_of_another_width_is_refused(run, settings, configure):
    config = configure(settings | OPTIONS | {"model.width": 3, "model.norm": "none", "train.initial_weights": str(run)})
    with pytest.raises(InputError, match="no kernel of that network"):
        start(config, load(config))


def test_a_run_with_a_frozen_encoder_keeps_it_and_resumes_without_the_weights(run, settings, configure, tmp_path):
    pack(run, tmp_path / "model.zip")
    given = {"train.initial_weights": str(tmp_path / "model.zip"), "train.freeze": "encoder"}
    config = configure(settings | OPTIONS | given | {"optim.part_rates": "decoder=0.5"})
    train(config, tmp_path / "tuned")
    source, tuned = (
        load_network(folder, read_config(folder), data_mesh())[1].items["model"] for folder in (run, tmp_path / "tuned")
    )
    for kind in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, source[kind]["encoder"], tuned[kind]["encoder"])
    assert not np.array_equal(source["params"]["head"]["kernel"], tuned["params"]["head"]["kernel"])
    (tmp_path / "model.zip").unlink()
    train(config, tmp_path / "tuned")  # scored again: it is finished
    assert unet_jax.load(tmp_path / "tuned").step


def test_parts_that_are_not_there_are_named(settings, configure):
    for key, value in (("train.freeze", "encodr"), ("optim.part_rates", "encodr=0.1")):
        config = configure(settings | {key: value})
        with pytest.raises(InputError, match=rf"config\.{key} names encodr, and the network's parts are "):
            start(config, load(config))

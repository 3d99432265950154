import dataclasses
import importlib
import itertools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from nnunet_arrays import plans_of

from configs import default
from unet_jax import models
from unet_jax.plan import run_plan
from unet_jax.plan.enlarged_patch import enlarged_patch
from unet_jax.run.config_keys import check_keys
from unet_jax.runtime.mesh import data_mesh
from unet_jax.training import setup
from unet_jax.training.step import make_train_step
from unet_jax.training.step_settings import StepSettings

FOLDER = Path(__file__).parent.parent / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def load(name):
    return importlib.import_module(f"configs.{name}").get_config()


def as_it_trains(config, folder):
    """The config with what it gets from a plan, which nnU-Net made of other data, and the plan's configuration.

    The latter is None for a recipe of slices.
    """
    name = "3d_fullres" if config.plan.configurations else config.plan.configuration
    if name is None and config.data.patch is None:
        return config, None
    planned = plans_of(folder, "hippocampus").configurations[name or "3d_fullres"]
    if name is None:
        return config, dataclasses.replace(planned, patch_size=tuple(config.data.patch))
    return run_plan.filled(config, planned), planned


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_whole_and_can_be_trained(name, tmp_path):
    config = load(name)
    check_keys(config, default.get_config())
    setup.check(as_it_trains(config, tmp_path)[0], data_mesh())


@pytest.mark.parametrize("name", NAMES)
def test_its_docstring_gives_the_command(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    assert re.search(rf"python main\.py (--mode=\w+ )?--config=configs/{name}\.py", text)


def test_the_default_is_the_tutorials_recipe():
    config = load("default")
    build = lambda: models.build(in_channels=3, num_classes=1, rngs=nnx.Rngs(0), **config.model)  # noqa: E731
    parameters = nnx.state(nnx.eval_shape(build), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(parameters)) == 7_782_913
    assert (config.data.image_size, config.train.batch_size, config.train.patience) == (256, 32, 3)
    assert config.loss.to_dict() == {"bce": 1.0, "dice": 1.0}
    assert (config.data.val_fraction, config.data.test_fraction) == (0.1, 0.15)
    assert config.optim.warmup_steps == 100


def test_the_folds_of_isbi2012_are_neighbouring_slices_apart_from_those_trained_on():
    folds = json.loads((FOLDER / "isbi2012_folds.json").read_text())
    assert load("isbi2012").data.folds == len(folds)
    assert sorted(int(name) for fold in folds for name in fold["test"]) == list(range(30))
    for fold in folds:
        train, val, test = ([int(name) for name in fold[side]] for side in ("train", "val", "test"))
        assert sorted(train + val + test) == list(range(30))
        assert np.ptp(test) == len(test) - 1
        assert min(abs(one - other) for one in train for other in test) == 2


def test_every_knob_of_the_default_is_explained():
    """Each knob has a comment above it, or shares one with the line above."""
    lines = (FOLDER / "default.py").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"    config\.\w+\.\w+ = ", line) and not line.endswith("ConfigDict()"):
            assert above.strip().startswith(("#", "config.")), line


# What makes each network tiny.
SHRUNK = {
    "tutorial": {"width": 2, "depth": 2},
    "unet2015": {"width": 2, "depth": 2},
    "buda2019": {"width": 2, "depth": 2},
    "fpn": {"width": 2, "pyramid_width": 4, "groups": 2},
    "resnext50_unet": {"width": 4, "depths": (1, 1), "cardinality": 2, "group_width": 2},
}


# Each compiles a program of its own, for five to seventeen seconds.
DAILY = ("default", "lgg_cpu", "lgg_gpu", "lgg_small")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in DAILY else pytest.mark.slow) for name in NAMES]
)
def test_a_shrunk_network_trains_a_step_of_it(name, tmp_path):
    config, planned = as_it_trains(load(name), tmp_path)
    with config.unlocked():
        config.model.update(SHRUNK.get(config.model.name) or {"features": [2] * len(config.model.features)})
    slab = [] if config.data.slab is None else [config.data.slab]
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (2, *slab, 40, 40, 3 * (1 + 2 * config.data.neighbours)), np.uint8),
        "mask": rng.integers(0, 2, (2, *slab, 40, 40), np.uint8),
    }
    if planned is not None:
        image = rng.normal(size=(2, *enlarged_patch(config.data.patch), 3)).astype(np.float32)
        batch = {"image": image, "mask": rng.integers(-1, 2, image.shape[:-1], np.int16)}
    if config.border_weights.w0:
        batch["weights"] = rng.uniform(1, 5, batch["mask"].shape).astype(np.float32)
    optimizer, schedule = setup.optimizer_and_schedule(config, 100)
    graphdef, state = setup.initial_state(config, 3, optimizer, data_mesh())
    before = jax.tree.map(np.array, state.params)
    config.data.image_size = 32
    settings = StepSettings.of(config, (), planned)
    step = make_train_step(graphdef, optimizer, settings, schedule)
    state, logged = step(state, batch)
    assert np.isfinite(float(logged["loss"]))
    moved = jax.tree.map(lambda old, new: np.any(old != np.asarray(new)), before, state.params)
    assert np.mean(jax.tree.leaves(moved)) > 0.9
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(state.params))

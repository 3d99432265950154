import importlib
import itertools
import re
from pathlib import Path

import jax
import pytest
from flax import nnx

from configs import default
from main import check_keys
from unet_jax import models
from unet_jax.sharding import data_mesh
from unet_jax.train import _check

FOLDER = Path(__file__).parent.parent / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def load(name):
    return importlib.import_module(f"configs.{name}").get_config()


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_whole_and_can_be_trained(name):
    config = load(name)
    check_keys(config, default.get_config())
    _check(config, data_mesh())


@pytest.mark.parametrize("name", NAMES)
def test_its_docstring_gives_the_command(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    assert f"python main.py --config=configs/{name}.py" in text


def test_the_default_is_the_tutorials_recipe():
    config = load("default")
    build = lambda: models.build(in_channels=3, num_classes=1, rngs=nnx.Rngs(0), **config.model)  # noqa: E731
    parameters = nnx.state(nnx.eval_shape(build), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(parameters)) == 7_782_913
    assert (config.data.image_size, config.train.batch_size, config.train.patience) == (256, 32, 3)
    assert config.loss.to_dict() == {"bce": 1.0, "dice": 1.0}
    assert (config.data.val_fraction, config.data.test_fraction) == (0.1, 0.15)
    assert config.optim.warmup_steps == 100


def test_every_knob_of_the_default_is_explained():
    """Each knob has a comment above it, or shares one with the line above."""
    lines = (FOLDER / "default.py").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"    config\.\w+\.\w+ = ", line) and not line.endswith("ConfigDict()"):
            assert above.strip().startswith(("#", "config.")), line

"""Networks, losses and formats that a config file registers, and that nothing else brings in."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePath
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unet_jax
from unet_jax import losses, models
from unet_jax.data.formats import file_sorts, table
from unet_jax.data.patients import without_suffix
from unet_jax.errors import InputError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.files import read_json, write_sealed_json
from unet_jax.run import config_file
from unet_jax.training.train import train

ROOT = Path(__file__).parents[1]
# The example of the documentation is what is tested.
MINE = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "own_parts.md").read_text(), re.DOTALL)[1]


@pytest.fixture
def unregistered(monkeypatch):
    monkeypatch.setattr(models, "PRESETS", dict(models.PRESETS))
    monkeypatch.setattr(losses, "LOSSES", dict(losses.LOSSES))
    monkeypatch.setattr(table, "FORMATS", list(table.FORMATS))
    return monkeypatch


def test_a_run_of_the_documented_file_trains_and_is_refused_without_it(unregistered, settings, configure, tmp_path):
    file, before = tmp_path / "mine.py", (dict(models.PRESETS), dict(losses.LOSSES))
    file.write_text(MINE)
    config_file.with_paths([f"--config={file}"])
    config_file.with_paths([f"--config={file}"])  # it is run twice by every command
    config = configure({key: of for key, of in settings.items() if not key.startswith("model.")} | {"train.epochs": 1})
    with config.unlocked():
        config.model = {"name": "tiny", "width": 2}
        config.loss = {"squared": {"weight": 1.0, "scale": 2.0}}
    train(config, tmp_path / "run")
    image = np.zeros((1, 16, 16, 3), np.uint8)
    assert unet_jax.load(tmp_path / "run")(image).shape == (1, 16, 16)
    unregistered.setattr(models, "PRESETS", before[0])
    unregistered.setattr(losses, "LOSSES", before[1])
    for use in (unet_jax.load, evaluate):
        with pytest.raises(InputError, match=r"'tiny'; it must be one of .*: add --config=FILE\."):
            use(tmp_path / "run")


def test_a_name_in_a_runs_config_imports_nothing(settings, configure, tmp_path, monkeypatch):
    canary = "import pathlib\npathlib.Path(__file__).with_name('sung').touch()\n"
    train(configure(settings | {"train.epochs": 1, "train.tensorboard": False}), tmp_path / "run")
    for name in ("theirs.py", "mine.py", "unet_theirs.py"):
        (tmp_path / "run" / name).write_text(canary)
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.syspath_prepend(tmp_path / "run")
    recorded = read_json(tmp_path / "run" / "config.json")
    for name in ("theirs", "theirs.Net", "theirs:Net", "mine.py", str(tmp_path / "run" / "theirs.py"), "os.mkdir"):
        write_sealed_json(tmp_path / "run" / "config.json", recorded | {"model": {"name": name}})
        with pytest.raises(InputError, match=r"add --config=FILE\."):
            unet_jax.load(tmp_path / "run")
        with pytest.raises(InputError, match=r"add --config=FILE\."):
            evaluate(tmp_path / "run")
    assert not (tmp_path / "run" / "sung").exists()


@pytest.mark.slow
def test_the_commands_with_and_without_the_file(settings, configure, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    taken = ("data.cache", "train.batch_size", *(key for key in settings if key.startswith("phantom.")))
    given = [f"--config.{key}={settings[key]}" for key in taken]
    given += ["--config.data.source=phantom", "--config.train.epochs=1", "--config.data.image_size=16"]

    def run(*arguments):
        command = [sys.executable, str(ROOT / "main.py"), "--workdir=run", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    first = run("--config=mine.py", *given)
    assert first.returncode == 0, first.stderr
    without = run("--mode=evaluate")
    assert (without.returncode, without.stderr.count("\n")) == (2, 1)
    assert "add --config=FILE" in without.stderr
    assert run("--mode=evaluate", "--config=mine.py").returncode == 0


def test_names_of_the_package_cannot_be_taken(unregistered):
    for take in (
        lambda: models.register("tutorial", lambda *_, **__: None),
        lambda: losses.register("dice", lambda *_: 0),
        lambda: table.register(table.Format("picture", (".png",), lambda: None)),
    ):
        with pytest.raises(InputError, match="this package"):
            take()


def test_a_registered_loss_is_summed_with_its_options_and_they_are_checked(unregistered):
    losses.register("squared", lambda logits, mask, pixel_weights=None: jnp.mean((logits - mask) ** 2))

    def scaled(logits, mask, pixel_weights=None, *, scale=1.0):
        return scale * jnp.mean((logits - mask) ** 2)

    losses.register("squared", scaled)
    logits, mask = jnp.full((1, 2, 2, 1), 3.0), jnp.ones((1, 2, 2, 1))
    weights = {"squared": {"weight": 0.5, "scale": 3.0}}
    losses.check_weights(weights)
    assert float(losses.total_loss(logits, mask, weights)) == 0.5 * 3 * 4
    with pytest.raises(InputError, match="scale is 'much'; it must be a number"):
        losses.check_weights({"squared": {"scale": "much"}})
    with pytest.raises(InputError, match="it may have weight, scale"):
        losses.check_weights({"squared": {"beta": 1.0}})


def test_a_registered_loss_is_for_classes_that_overlap_as_well(unregistered):
    def with_sigmoid(logits, mask, pixel_weights=None, *, sigmoid=False):
        assert sigmoid
        return jnp.mean((jax.nn.sigmoid(logits) - mask) ** 2)

    losses.register("squared", lambda logits, mask, pixel_weights=None: jnp.mean((logits - mask) ** 2))
    losses.register("with_sigmoid", with_sigmoid)
    weights = losses.for_overlap({"squared": 0.5, "with_sigmoid": 2.0}, 3)
    losses.check_weights(weights, 3, overlap=True)
    logits, mask = jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 2, 2, 3))
    assert float(losses.total_loss(logits, mask, weights)) == 0.5 * 1 + 2 * 0.25


def test_a_registered_format_is_read_and_listed(unregistered, tmp_path):
    def decode(data, name, *, mask=False):
        return np.frombuffer(data, np.uint8).reshape(1, 2, 2, 1)

    assert table.format_of(PurePath("scan.raw4")) is None
    table.register(table.Format("picture", (".raw4",), lambda: SimpleNamespace(decode=decode, encode=None)))
    pixels, grid = table.read(bytes([1, 2, 3, 4]), PurePath("scan.RAW4"))
    assert (pixels.ravel().tolist(), grid) == ([1, 2, 3, 4], None)
    (tmp_path / "scan.raw4").write_bytes(bytes(4))
    assert file_sorts.sort_of(tmp_path) == "picture"
    assert ".raw4" in file_sorts.PICTURE_SUFFIXES
    assert without_suffix("a/scan.raw4") == "a/scan"
    assert without_suffix("b.nii.gz") == "b"

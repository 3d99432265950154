import os
import subprocess
import sys
from pathlib import Path

import pytest

import main
from configs import default
from unet_jax.errors import InputError

PROJECT = Path(__file__).parent.parent
RECIPE = "--config=configs/default.py"


def run(*arguments, cwd=PROJECT):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, str(PROJECT / "main.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([RECIPE, "--config.model.widht=3"], "config.model.widht is no key; did you mean config.model.width?"),
        ([RECIPE, "--config.modl.width=3"], "config.modl.width is no key; did you mean config.model.width?"),
        ([RECIPE, "--config.model.width=wide"], "--config.model.width=wide: invalid literal for int"),
        ([RECIPE, "--config.model={}"], "config.model.name is missing: start from configs/default.py."),
        ([RECIPE, "--mode=trian"], "--mode is 'trian'; it must be one of train"),
        ([RECIPE, "--wokdir=x"], "Unknown command line flag 'wokdir'. Did you mean: workdir ?"),
        ([RECIPE, "train"], "'train' is no flag: flags look like --mode=train."),
        ([RECIPE, "--config.data.root=no/such"], "config.data.root: found no folder no/such;"),
        ([RECIPE, "--config.data.source=lg"], "config.data.source is 'lg'; it must be one of auto, lgg"),
        (["--config=configs/nope.py"], "--config cannot be loaded: [Errno 2] No such file or directory"),
        (["--config=configs"], "--config cannot be loaded: [Errno 21] Is a directory"),
        ([], "--config is missing: name a recipe, such as --config=configs/default.py."),
        (["--mode=evaluate"], "--workdir is missing: name the run's folder, such as"),
    ],
)
def test_a_slip_is_answered_in_one_line(arguments, line):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--mode=evaluate", "--workdir=no/such"], "no/such/config.json cannot be read"),
        (["--mode=evaluate", "--workdir=x", "--split=tset"], "--split is 'tset'; it must be one of train"),
        (["--mode=evaluate", "--workdir=x", "--data=y"], "--data needs --split=all"),
        (
            [RECIPE, "--config.data.source=phantom", "--config.model.name=tutoral"],
            "config.model.name is 'tutoral'; it must be one of tutorial",
        ),
    ],
)
def test_a_slip_that_only_a_verb_can_tell(arguments, line, tmp_path):
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ")
    assert line in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"configs"}


def test_help_names_every_flag():
    done = run("--help")
    for name in ("config", "mode", "workdir", "split", "data"):
        assert f"--{name}:" in done.stdout or f"--[no]{name}:" in done.stdout


def test_a_config_needs_every_key_and_no_other():
    config = default.get_config()
    main.check_keys(config, default.get_config())
    with config.unlocked():
        del config.train.epochs
        config.train.epoch = 3
        config.model.growth = 2  # a network's own option: the network judges it
    with pytest.raises(InputError) as error:
        main.check_keys(config, default.get_config())
    assert str(error.value).splitlines() == [
        "config.train.epochs is missing: start from configs/default.py.",
        "config.train.epoch is no key; did you mean config.train.epochs?",
    ]

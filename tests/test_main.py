import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import data_sets
import pytest

from configs import default
from unet_jax import __version__, errors
from unet_jax.command_line import flags, modes, program
from unet_jax.run import resume
from unet_jax.runtime.lock import lock_folder

PROJECT = Path(__file__).parent.parent
RECIPE = "--config=configs/default.py"


def run(*arguments, cwd=PROJECT):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, str(PROJECT / "main.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([RECIPE, "--config.model.widht=3"], "config.model.widht is not a key; did you mean config.model.width?"),
        ([RECIPE, "--config.modl.width=3"], "config.modl.width is not a key; did you mean config.model.width?"),
        ([RECIPE, "--config.lr=0.1"], "config.lr is not a key; did you mean config.optim.learning_rate?"),
        ([RECIPE, "--config.epochs=3"], "config.epochs is not a key; did you mean config.train.epochs?"),
        (
            [RECIPE, "--config.loss.focal=1.0"],
            "config.loss.focal is not a key; give the loss as a whole: --config.loss='{\"focal\": 1.0}'.",
        ),
        (
            ["--config=configs/unet2015.py", "--config.model.norm=instance"],
            "this recipe's config.model has no norm: give it as a whole, with the keys that the recipe sets, as in "
            "--config.model=\"{'name': 'unet2015', 'norm': …}\".",
        ),
        ([RECIPE, "--config.model.width=wide"], "--config.model.width=wide: invalid literal for int"),
        ([RECIPE, "--config.train.epochs=None"], "config.train.epochs is None, and needs a value, such as 20."),
        # None is a value for a key that need not have one: the next fault is told.
        ([RECIPE, "--config.optim.clip_norm=None", "--config.data.root=nowhere"], "config.data.root: found no folder"),
        ([RECIPE, "--config.model={}"], "config.model.name is missing: start from configs/default.py."),
        ([RECIPE, "--mode=trian"], "--mode is 'trian'; it must be one of train"),
        ([RECIPE, "--wokdir=x"], "Unknown command line flag 'wokdir'. Did you mean: workdir ?"),
        ([RECIPE, "train"], "'train' is not a flag: flags look like --mode=train."),
        ([RECIPE, "--config.data.root=no/such"], "config.data.root: found no folder no/such;"),
        (
            ["--mode=plan", "--config=configs/nnunet.py", "--config.data.root=no/such"],
            "config.data.root: found no folder no/such; it must hold imagesTr and labelsTr, as raw data",
        ),
        ([RECIPE, "--config.data.source=lg"], "config.data.source is 'lg'; it must be one of auto, lgg"),
        (["--config=configs/nope.py"], "--config=configs/nope.py: there is no such file; in configs there are"),
        (["--config=configs"], "--config=configs: there is no such recipe; there are buda2019, chase, default, fpn,"),
        (
            ["--config=lgg_gpus"],
            "--config=lgg_gpus: there is no such recipe; did you mean lgg_gpu? There are buda2019,",
        ),
        ([], "--config is missing: name a recipe, such as --config=default; there are buda2019, chase, default, fpn,"),
        (["--mode=evaluate"], "--workdir is missing: name the run's folder, such as"),
        (["--verify-data"], "--workdir is missing: name the run's folder, such as"),
        (["--mode=export", "--workdir=x"], "--output is missing: name the file to write, such as --output=tumour.zip."),
        (
            ["--mode=predict", "--workdir=x", "--input=y"],
            "--output is missing: predict needs --input=PATH of images and",
        ),
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
        (["--verify-data", "--workdir=x"], "x/config.json cannot be read"),
        ([RECIPE, "--resume=must", "--workdir=x"], "x has no checkpoint to resume from, as --resume=must demands"),
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


def test_a_folder_in_use_is_answered_with_the_holders_number(tmp_path):
    resume.record(tmp_path / "run", default.get_config(), data_sets.of())
    with lock_folder(tmp_path / "run"):
        done = run("--mode=evaluate", f"--workdir={tmp_path / 'run'}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (9, "", 1)
    assert f"error: {tmp_path / 'run'} is in use by process {os.getpid()} on " in done.stderr


@pytest.fixture
def parsed():
    flags.FLAGS(["main.py"])
    yield
    flags.FLAGS.unparse_flags()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("x.tif: is damaged: restore it."), 2),
        (errors.StopRequestedError("stopped after step 7"), 3),
        (errors.DamageError("checkpoint 7 is damaged"), 4),
        (errors.StorageError("the disk is full"), 5),
        (errors.NumbersError("the loss is nan"), 6),
        (errors.StuckError("a worker died"), 7),
        (errors.OutOfMemoryError("too little memory"), 8),
        (errors.BusyError("in use"), 9),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x/y.json"), 5),
        (OSError(errno.EROFS, "Read-only file system", "runs/x/y.json"), 5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_fault_has_its_exit_code_and_one_line(error, code, parsed, monkeypatch, capsys):
    def raise_it():
        raise error

    monkeypatch.setattr(modes, "_train", raise_it)
    assert program.main([]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    # Stopping is what was asked for.
    assert err.startswith("error: ") == (not isinstance(error, errors.StopRequestedError))
    assert (error.strerror if isinstance(error, OSError) else str(error)) in err


def test_a_bug_keeps_its_traceback(parsed, monkeypatch):
    for error in (FileNotFoundError(errno.ENOENT, "gone"), ValueError("bug")):
        monkeypatch.setattr(modes, "_train", lambda error=error: (_ for _ in ()).throw(error))
        with pytest.raises(type(error)):
            program.main([])


def test_every_kind_of_error_has_a_code_of_its_own():
    kinds = errors.RunError.__subclasses__()
    assert sorted(kind.exit_code for kind in kinds) == list(range(2, 2 + len(kinds)))


@pytest.mark.parametrize("flag", ["--help", "--helpfull", "-h"])
def test_help_is_short_and_names_every_mode_flag_and_recipe(flag):
    done = run(flag)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("config", "mode", "workdir", "split", "data", "resume", "verify-data"):
        assert f"--{name}:" in done.stdout or f"--[no]{name}:" in done.stdout
    for mode in flags.MODES:
        assert f"\n  {mode} " in done.stdout
    for path in (PROJECT / "configs").glob("*.py"):
        assert re.search(rf"\b{path.stem}\b", done.stdout)
    lines = done.stdout.splitlines()
    assert len(lines) < 80
    assert sum(line.startswith("  python main.py ") for line in lines) == 5
    assert max(map(len, lines)) <= 100 or str(PROJECT) in max(lines, key=len)


def test_the_program_says_its_version():
    assert (run("--version").stdout, __version__) == ("unet_jax 0.1.0\n", "0.1.0")


def test_it_is_the_same_program_as_a_module(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "unet_jax", "--config=lgg_cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "config.data.root: found no folder data/kaggle_3m" in done.stderr
    assert not list(tmp_path.iterdir())

"""Forty commands and more that a newcomer types, right and wrong, outside of a checkout: how each ends, and a line."""

import re
import shutil
from pathlib import Path

import commands
import cv2
import numpy as np
import pytest

from unet_jax.data import phantom

TINY = [
    "--config=default",
    *(
        f"--config.{key}={value}"
        for key, value in {
            "data.root": "scans",
            "data.image_size": 16,
            "model.width": 2,
            "model.depth": 2,
            "train.batch_size": 4,
            "train.epochs": 1,
            "train.tensorboard": False,
            "data.val_fraction": 0.25,
            "data.test_fraction": 0.25,
        }.items()
    ),
]
RUN = "--workdir=runs/first"

# In their order: what one writes, the next ones use. Arguments; exit code; a line of stdout, if that is 0, or stderr.
COMMANDS = [
    # What is there?
    (["--help"], 0, r"predict +writes masks of images"),
    (["--helpfull"], 0, r"--\[no\]overwrite: predict, export"),
    (["--version"], 0, r"unet_jax \d+\.\d+\.\d+"),
    ([], 2, r"--config is missing: name a recipe, such as --config=default; there are buda2019, chase, default, "),
    (["train"], 2, r"'train' is not a flag: flags look like --mode=train\."),
    (["--mode=trian", "--config=default"], 2, r"--mode is 'trian'; it must be one of train, evaluate"),
    (["--mode", "help"], 2, r"--mode is 'help'; it must be one of train, evaluate"),
    (["--wokdir=x"], 2, r"Unknown command line flag 'wokdir'\. Did you mean: workdir \?"),
    # Which recipe?
    (["--config=lgg-cpu"], 2, r"there is no such recipe; did you mean lgg_cpu\? There are buda2019, chase, default, "),
    (["--config=tutorial"], 2, r"--config=tutorial: there is no such recipe; there are buda2019, chase, default, "),
    (["--config=configs/default.py"], 2, r"there is no such file; recipes of the program are named without path"),
    (["--config=mien.py"], 2, r"--config=mien\.py: there is no such file; in \. there are broken\.py, mine\.py\."),
    (["--config=broken.py"], 2, r"broken\.py, line 2: ZeroDivisionError: division by zero: mend this config file\."),
    (
        ["--config.model.width=8"],
        2,
        r"config\.model\.width sets a key of a recipe: name that too, as in --config=default",
    ),
    # Which key?
    (
        ["--config=default", "--config.lr=1e-3"],
        2,
        r"config\.lr is not a key; did you mean config\.optim\.learning_rate",
    ),
    (
        ["--config=default", "--config.epochs=1"],
        2,
        r"config\.epochs is not a key; did you mean config\.train\.epochs\?",
    ),
    (["--config=default", "--config.model.widht=8"], 2, r"did you mean config\.model\.width\?"),
    (
        ["--config=default", "--config.loss.focal=1.0"],
        2,
        r"give the loss as a whole: --config\.loss='\{\"focal\": 1\.0",
    ),
    ([*TINY, "--config.loss={'focl': 1.0}"], 2, r"config\.loss has focl; it may have bce, ce, focal"),
    (["--config=default", "--config.train.epochs=ten"], 2, r"--config\.train\.epochs=ten: invalid literal for int"),
    ([*TINY, "--config.data.image_size=17"], 2, r"config\.data\.image_size: the image is \(17, 17\); every axis must"),
    ([*TINY, "--config.model.name=unet"], 2, r"config\.model\.name is 'unet'; it must be one of tutorial, "),
    ([*TINY, "--config.optim.name=adamw"], 2, r"config\.optim\.name is 'adamw'; it must be one of adam, "),
    ([*TINY, "--config.loss=dice"], 2, r"flag --config\.loss=dice: a group of keys is given as in --config\.loss='\{"),
    # Which data?
    (["--config=lgg_cpu"], 2, r"found no folder data/kaggle_3m; .* \(`python -m unet_jax\.data\.download` does that\)"),
    (["--config=default", "--config.data.root=scasn"], 2, r"config\.data\.root: found no folder scasn; "),
    (["--config=default", "--config.data.root=empty"], 2, r"empty: holds no layout that is known, but nothing"),
    (["--config=default", "--config.data.root=mine.py"], 2, r"mine\.py: is a file, and a folder is needed"),
    (["--mode=check", *TINY, "--workdir=runs/check"], 0, r"8 "),
    # A run.
    (["--mode=evaluate", RUN], 2, r"runs/first/config\.json cannot be read"),
    (["--resume=must", *TINY, RUN], 2, r"runs/first has no checkpoint to resume from, as --resume=must demands"),
    ([*TINY, RUN], 0, r"runs/first/evaluation/test"),
    ([*TINY, RUN, "--config.seed=1"], 2, r"config\.seed: the run has 0, this command 1"),
    ([*TINY, RUN], 0, r"runs/first/evaluation/test"),
    (["--mode=evaluate", RUN, "--split=tset"], 2, r"--split is 'tset'; it must be one of train, val, test, all"),
    (["--mode=evaluate", RUN, "--split=val"], 0, r"runs/first/evaluation/val"),
    # Its masks.
    (["--mode=predict", RUN, "--input=picture.png"], 2, r"--output is missing: predict needs --input=PATH of images"),
    (["--mode=predict", RUN, "--input=pictrue.png", "--output=masks"], 2, r"pictrue\.png"),
    (["--mode=predict", RUN, "--input=picture.png", "--output=masks"], 0, r"masks, cases\.csv and slices\.csv are in"),
    (["--mode=predict", RUN, "--input=picture.png", "--output=masks"], 2, r"already: name another --output, or add"),
    (["--mode=export", RUN, "--output=network.pt"], 2, r"the file's name must end with \.zip or \.onnx"),
    (["--mode=export", RUN, "--output=network.zip"], 0, r"Exported step \d+ of first to network\.zip"),
    # A pack.
    (["--mode=pack", RUN, "--output=model.zip"], 0, r"It names no case"),
    (["--mode=predict", "--workdir=model.zip", "--input=picture.png", "--output=again"], 0, r"masks, cases\.csv and"),
    (["--mode=evaluate", "--workdir=model.zip"], 2, r"model\.zip has no split\.json: .* --split=all --data=DIR"),
    (["--mode=export", "--workdir=model.zip", "--output=again.zip"], 0, r"Exported step \d+ of model to again\.zip"),
    (["--mode=predict", "--workdir=network.zip", "--input=picture.png", "--output=x"], 2, r"network\.zip"),
]


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory) -> Path:
    """A folder outside of the checkout with a few scans, a picture and two recipes."""
    folder = tmp_path_factory.mktemp("newcomer")
    phantom.write(folder / "scans", seed=3, patients=8, size=32, slices=(4, 6))
    cv2.imwrite(str(folder / "picture.png"), np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    (folder / "empty").mkdir()
    (folder / "mine.py").write_text("from configs.lgg_cpu import get_config  # noqa: F401\n")
    (folder / "broken.py").write_text("def get_config():\n    return 1 / 0\n")
    return folder


def test_forty_commands(newcomer, tmp_path, monkeypatch):
    assert len(COMMANDS) >= 40
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    before = {path.name for path in newcomer.iterdir()}
    wrong = []
    for arguments, code, line in COMMANDS:
        ended = commands.run([*arguments, f"--cache_dir={tmp_path / 'cache'}"], newcomer, tmp_path)
        text = ended.err if code else ended.out
        if ended.code != code or not re.search(line, text) or "Traceback" in ended.err:
            wrong.append(f"{' '.join(arguments)}: {ended}")
        elif code and not re.fullmatch(r"error: .*\n(  .*\n)*", ended.err):
            wrong.append(f"{' '.join(arguments)}: more than a line a mistake: {ended.err}")
    assert not wrong, "\n\n".join(wrong)
    # Nothing is left that was not asked for.
    written = {"runs", "masks", "network.zip", "model.zip", "again", "again.zip"}
    assert {path.name for path in newcomer.iterdir()} - before == written


def test_a_run_finds_its_data_from_another_folder_and_after_a_move(newcomer, tmp_path, monkeypatch):
    run, other = newcomer / "runs" / "first", tmp_path / "other"
    other.mkdir()
    shutil.copytree(newcomer / "scans", tmp_path / "moved")
    flags = ["--mode=evaluate", f"--workdir={run}", f"--cache_dir={tmp_path / 'cache'}", "--output=scores"]
    assert commands.run(flags, other, tmp_path).code == 0
    (newcomer / "scans").rename(newcomer / "elsewhere")
    ended = commands.run(flags, other, tmp_path)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"{newcomer / 'scans'}: the run's data are not there: say with --data=DIR where they are now." in ended.err
    assert commands.run([*flags, f"--data={tmp_path / 'moved'}"], other, tmp_path).code == 0
    assert [path.name for path in other.iterdir()] == ["scores"]

"""A plan of two configurations of slices, which train in seconds, and what is made of it."""

import dataclasses
import shutil
from pathlib import Path

import nnunet_raw
import pytest

from configs import nnunet
from unet_jax.auto.auto import auto
from unet_jax.plan import plan_file
from unet_jax.run.resolve import resolve

SETTINGS = {
    "data.folds": 2,
    "data.val_fraction": 0.3,
    "plan.configurations": ("wide", "2d", "3d_lowres"),
    "train.epochs": 1,
    "train.steps_per_epoch": 6,
    "train.tensorboard": False,
    "optim.learning_rate": 0.03,
    "eval.tta": False,
}


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Path:
    return nnunet_raw.write(tmp_path_factory.mktemp("raw") / "Dataset007_Balls")


@pytest.fixture(scope="session")
def config(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")
    made = nnunet.get_config()
    made.data.root, made.data.cache = str(raw), str(folder / "cache")
    made.plan.configuration, made.plan.configurations = "2d", None
    flat = nnunet_raw.tiny_plan(resolve(made, [])[0]).configurations["2d"]
    made.plan.configuration = None
    wide = dataclasses.replace(flat, network=dataclasses.replace(flat.network, features=(8, 8, 8)))
    plans = dataclasses.replace(nnunet_raw.tiny_plan(resolve(made, [])[0]), configurations={"2d": flat, "wide": wide})
    plan_file.write_plans(folder / "plan.json", plans)
    made.update_from_flattened_dict(SETTINGS | {"plan.file": str(folder / "plan.json")})
    return resolve(made, SETTINGS)[0]


@pytest.fixture(scope="session")
def workdir(config, tmp_path_factory) -> Path:
    """Of the finished command; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "balls"
    auto(config, folder)
    return folder


@pytest.fixture
def copied(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "copied")
    return tmp_path / "copied"

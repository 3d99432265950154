import json

import pytest
from nnunet_answers import data_set

from configs import nnunet
from unet_jax.auto import runs
from unet_jax.errors import InputError
from unet_jax.plan.plan_file import read_plans, write_plans


@pytest.fixture
def config():
    return nnunet.get_config()


@pytest.fixture
def cascade(tmp_path):
    path = tmp_path / "liver.json"
    path.write_text(json.dumps(data_set("liver")["plans"]["ExperimentPlanner"]))
    return read_plans(path)


@pytest.fixture
def flat(tmp_path):
    """Of a plan without 3d_lowres."""
    path = tmp_path / "hippocampus.json"
    path.write_text(json.dumps(data_set("hippocampus")["plans"]["ExperimentPlanner"]))
    return read_plans(path)


def test_nnunets_four_are_trained_where_the_plan_has_them(config, cascade, flat):
    names, lines = runs.configurations_of(config, cascade)
    assert names == ["2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"]
    assert lines == []
    names, lines = runs.configurations_of(config, flat)
    assert names == ["2d", "3d_fullres"]
    assert [line.partition(" is left out: the plan has no such")[0] for line in lines] == [
        "3d_lowres",
        "3d_cascade_fullres",
    ]


def test_a_first_stage_comes_first_and_is_added(config, cascade):
    config.plan.configurations = ("3d_cascade_fullres", "2d", "3d_lowres")
    assert runs.configurations_of(config, cascade) == (["3d_lowres", "3d_cascade_fullres", "2d"], [])
    config.plan.configurations = ("3d_cascade_fullres",)
    names, lines = runs.configurations_of(config, cascade)
    assert names == ["3d_lowres", "3d_cascade_fullres"]
    assert lines == ["3d_lowres is trained too: 3d_cascade_fullres needs its masks."]


def test_a_cascade_needs_all_folds(config, cascade):
    config.plan.folds = 2
    names, lines = runs.configurations_of(config, cascade)
    assert names == ["2d", "3d_fullres", "3d_lowres"]
    assert lines == [
        "3d_cascade_fullres is left out: it needs the masks of all 5 folds of 3d_lowres, and config.plan.folds is 2."
    ]
    config.plan.configurations = ("3d_cascade_fullres", "no such")
    with pytest.raises(InputError, match="none of them can be trained; the plan has 2d, 3d_"):
        runs.configurations_of(config, cascade)


def test_folds(config):
    assert list(runs.fold_numbers(config)) == [0, 1, 2, 3, 4]
    config.plan.folds = 1
    assert list(runs.fold_numbers(config)) == [0]
    for folds, count in ((5, 6), (5, 0), (0, None), (1, 1)):
        config.data.folds, config.plan.folds = folds, count
        with pytest.raises(InputError, match=r"config\.plan\.folds is"):
            runs.fold_numbers(config)


def test_the_recipe_of_a_run_is_that_of_one_alone(config, tmp_path):
    run = runs.Run("2d", 3, tmp_path)
    alone = nnunet.get_config()
    alone.plan.configuration, alone.data.fold, alone.plan.configurations = "2d", 3, None
    assert runs.recipe(config, run).to_dict() == alone.to_dict()
    assert config.plan.configuration is None


def test_a_folder_of_runs_is_told_from_a_run(tmp_path, flat):
    assert runs.begun(tmp_path) == []
    write_plans(tmp_path / "plan.json", flat)
    assert runs.begun(tmp_path) == []
    folder = runs.folder_of(tmp_path, "3d_fullres", 2)
    folder.mkdir(parents=True)
    assert runs.begun(tmp_path) == []
    (folder / "config.json").write_text("{}")
    assert runs.begun(tmp_path) == [runs.Run("3d_fullres", 2, folder)]
    assert runs.begun(tmp_path)[0].state == "begun"
    (tmp_path / "config.json").write_text("{}")
    assert runs.begun(tmp_path) == []

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nnunet_answers import data_set, unpack_raw
from nnunet_arrays import write_plans

from configs import default
from unet_jax.errors import InputError
from unet_jax.plan import make, plan_file
from unet_jax.plan.plan_file import read_plans

NAME = "real_iso_mri"
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path):
    config = default.get_config()
    config.data.source, config.data.root = "nifti", str(unpack_raw(tmp_path / "raw") / NAME)
    return config


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    """10⁸ would take a gigabyte; fewer change the intensities alone, and of an MRI no plan needs these."""
    original = make.take_fingerprint
    monkeypatch.setattr(make, "take_fingerprint", lambda *args: original(*args, samples=10**5))


def json_of(path):
    return json.loads(path.read_text())


def test_nnunets_files_for_nnunets_data(config, tmp_path, capsys):
    made = make.make_plan(config, tmp_path / "run", plan_format="nnunet")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"fingerprint.json", "plan.json", "dataset_fingerprint.json", "nnUNetPlans.json"}
    expected = data_set(NAME)["plans"]["ExperimentPlanner"]
    found = json_of(tmp_path / "run" / "nnUNetPlans.json")
    key = "foreground_intensity_properties_per_channel"
    assert {**found, "dataset_name": "", key: {}} == {**expected, "dataset_name": "", key: {}}
    fingerprint = json_of(tmp_path / "run" / "dataset_fingerprint.json")
    assert fingerprint == json_of(tmp_path / "run" / "fingerprint.json")
    np.testing.assert_allclose(fingerprint["spacings"], data_set(NAME)["fingerprint"]["spacings"], rtol=1e-12)
    assert fingerprint["shapes_after_crop"] == data_set(NAME)["fingerprint"]["shapes_after_crop"]
    assert read_plans(tmp_path / "run" / "plan.json") == made
    out = capsys.readouterr().out
    assert all(reason in out for reason in made.reasons)
    assert "3d_fullres" in out


def test_without_a_format_only_its_own_files(config, tmp_path):
    make.make_plan(config, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"fingerprint.json", "plan.json"}


def test_the_settings_of_the_config_count(config, tmp_path):
    config.plan.update(preset="resenc_l", memory_gb=3.5, spacing=(2, 2.0, 3.0))
    made = make.make_plan(config, tmp_path / "run")
    assert made.planner == "nnUNetPlannerResEncL"
    assert made.configurations["3d_fullres"].spacing == (3.0, 2.0, 2.0)
    assert any("and 3.5 GB" in reason for reason in made.reasons)


def test_the_accelerators_memory_counts_where_it_is_asked_for(config, tmp_path):
    config.plan.device = True
    made = make.make_plan(config, tmp_path / "run", device_memory_gb=60.0)
    assert any("and 60 GB" in reason for reason in made.reasons)


def test_an_edited_plan_is_not_replaced_by_accident(config, tmp_path):
    make.make_plan(config, tmp_path / "run")
    make.make_plan(config, tmp_path / "run")
    path = tmp_path / "run" / "plan.json"
    edited = json_of(path)
    edited["configurations"]["3d_fullres"]["batch_size"] = 11
    path.write_text(json.dumps(edited))
    with pytest.raises(InputError, match=r"run has another plan.json already: .* --overwrite"):
        make.make_plan(config, tmp_path / "run")
    assert json_of(path) == edited
    make.make_plan(config, tmp_path / "run", overwrite=True)
    assert read_plans(path).configurations["3d_fullres"].batch_size != 11


def test_a_plan_that_cannot_be_read_is_not_replaced_either(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"another plan\.json"):
        make.make_plan(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["plan.json"]


def test_a_plan_of_nnunets_is_taken_with_what_somebody_changed(config, tmp_path):
    path = write_plans(tmp_path, NAME)
    plans = json_of(path)
    plans["configurations"]["mine"] = {"inherits_from": "3d_fullres", "batch_size": 3}
    path.write_text(json.dumps(plans))
    config.plan.file = str(path)
    made = make.make_plan(config, tmp_path / "run", plan_format="nnunet")
    assert made == read_plans(path) == read_plans(tmp_path / "run" / "plan.json")
    assert made.configurations["mine"].batch_size == 3
    # No fingerprint was taken.
    assert {each.name for each in (tmp_path / "run").iterdir()} == {"plan.json", "nnUNetPlans.json"}
    assert read_plans(tmp_path / "run" / "nnUNetPlans.json") == made


def change(path, **values):
    path.write_text(json.dumps(json_of(path) | values))


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"preset": "resenc"}, "config.plan.preset='resenc': give one of default, resenc_m"),
        ({"memory_gb": -1.0}, "config.plan.memory_gb=-1: give a number above 0."),
        ({"spacing": (1.0, 1.0)}, "config.plan.spacing=(1.0, 1.0): give three numbers above 0"),
        ({"spacing": ("1", 1, 1)}, "config.plan.spacing=('1', 1, 1): give three numbers above 0"),
        ({"memory_gb": 8.0, "device": True}, "config.plan.device=True reads the memory that config.plan.memory_gb=8"),
        ({"file": "no.json"}, "no.json cannot be read"),
        ({"file": "x", "memory_gb": 8.0, "spacing": (1, 1, 1)}, "config.plan.memory_gb and config.plan.spacing change"),
    ],
    ids=str,
)
def test_a_slip_is_a_line(config, tmp_path, keys, line):
    config.plan.update(keys)
    with pytest.raises(InputError) as error:
        make.make_plan(config, tmp_path / "run")
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_format_there_is_not(config, tmp_path):
    with pytest.raises(InputError, match="--format is 'nnU-Net'; it must be one of unet_jax, nnunet"):
        make.make_plan(config, tmp_path / "run", plan_format="nnU-Net")


@pytest.mark.parametrize("name", ["../plans", "plan", "", "a\0"])
def test_a_plans_name_leads_nowhere_else(config, tmp_path, name):
    path = write_plans(tmp_path, NAME)
    change(path, plans_name=name)
    config.plan.file = str(path)
    with pytest.raises(InputError, match="name"):
        make.make_plan(config, tmp_path / "run", plan_format="nnunet")
    assert not (tmp_path / "run").exists()


def test_a_plan_of_other_images_is_refused(config, tmp_path):
    config.plan.file = str(write_plans(tmp_path, NAME))
    change(Path(config.data.root, "dataset.json"), channel_names={"0": "T1", "1": "T2"})
    with pytest.raises(InputError, match=r"is for images of 1 channel, and .*dataset.json has 2 \(T1, T2\)"):
        make.make_plan(config, tmp_path / "run")


def test_other_data_sets_are_planned_as_they_are_read_for_training(phantom_files, tmp_path):
    config = default.get_config()
    config.data.update(source="lgg", root=str(phantom_files), cache=str(tmp_path / "cache"))
    made = make.make_plan(config, tmp_path / "run")
    # No spacing is known: 1 mm, as nnU-Net has it; three sequences.
    assert made.median_spacing == (1.0, 1.0, 1.0)
    assert made.configurations["3d_fullres"].normalisation == ("zscore",) * 3
    assert plan_file.read_plans(tmp_path / "run" / "plan.json") == made
    with pytest.raises(InputError, match="nnU-Net reads"):
        make.make_plan(config, tmp_path / "other", plan_format="nnunet")
    assert not (tmp_path / "other").exists()


def test_from_the_command_line(config, tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, str(PROJECT / "main.py"), "--mode=plan", f"--config={PROJECT}/configs/nnunet.py"]
    command.append(f"--cache_dir={tmp_path / 'cache'}")
    command += [f"--config.data.root={config.data.root}", "--format=nnunet", "--config.plan.spacing=(2.0, 2.0, 3.0)"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    plans = read_plans(tmp_path / "runs" / "nnunet" / "plan.json")
    assert plans.configurations["3d_fullres"].spacing == (3.0, 2.0, 2.0)
    done = subprocess.run(
        [*command[:-1], "--config.plan.spacing=None"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "has another plan.json and nnUNetPlans.json already" in done.stderr

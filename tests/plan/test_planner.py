import json
import subprocess
import sys

import numpy as np
import pytest
from nnunet_answers import data_set, planned

from unet_jax.errors import InputError
from unet_jax.plan import nnunet_plans
from unet_jax.plan.dataset import from_json as dataset_of
from unet_jax.plan.fingerprint import from_json as fingerprint_of
from unet_jax.plan.planner import Settings, main, plan
from unet_jax.plan.presets import PRESETS

PRESET_OF = {preset.planner: name for name, preset in PRESETS.items()}
# The one set that was planned for another memory, so that it has a cascade.
MEMORY_GB = {"real_cascade": 0.035}


def planned_here(name, settings=None, **dataset):
    answers = data_set(name)
    return plan(fingerprint_of(answers["fingerprint"]), dataset_of(answers["dataset"] | dataset, name), settings)


@pytest.mark.parametrize(("name", "planner"), planned())
def test_as_nnunet_key_for_key(name, planner):
    expected = data_set(name)["plans"][planner]
    settings = Settings(PRESET_OF[planner], memory_gb=MEMORY_GB.get(name))
    found = nnunet_plans.to_json(planned_here(name, settings)) | {"dataset_name": expected["dataset_name"]}
    # Order of keys and last digits of spacings included.
    assert json.dumps(found) == json.dumps(expected)


def volumes(*spacings, shape=(40, 50, 60), channels=1, **more):
    """A fingerprint of cases of one shape."""
    statistics = {name: 1.0 for name in ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")}
    return fingerprint_of(
        {
            "spacings": [list(spacing) for spacing in spacings],
            "shapes_after_crop": [list(shape) for _ in spacings],
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {str(index): statistics for index in range(channels)},
        }
        | more
    )


def described(*channels, **more):
    names = {str(index): name for index, name in enumerate(channels or ("CT",))}
    values = {"channel_names": names, "labels": {"background": 0, "a": 1}, "numTraining": 10, "file_ending": ".nii.gz"}
    return dataset_of(values | more, "x")


def test_the_coarsest_axis_comes_first():
    found = plan(volumes((1, 2, 5), shape=(200, 150, 40)), described())
    assert found.transpose_forward == (2, 0, 1)
    assert found.median_shape == (40, 200, 150)
    assert found.median_spacing == found.configurations["3d_fullres"].spacing == (5.0, 1.0, 2.0)
    assert found.configurations["2d"].spacing == (1.0, 2.0)
    assert nnunet_plans.to_json(found)["transpose_backward"] == [1, 2, 0]
    assert found.configurations["3d_fullres"].normalisation == ("ct",)


def test_axes_can_stay():
    found = plan(volumes((1, 2, 5), shape=(200, 150, 40)), described(), Settings(transpose=False))
    assert found.transpose_forward == (0, 1, 2)
    assert found.configurations["2d"].spacing == (2.0, 5.0)


def test_a_spacing_that_is_given_decides_on_the_order_too():
    found = plan(volumes((1, 1, 1)), described(), Settings(spacing=(0.5, 2.0, 1.0)))
    assert found.transpose_forward == (1, 0, 2)
    fullres = found.configurations["3d_fullres"]
    assert fullres.spacing == (2.0, 0.5, 1.0)
    assert fullres.median_shape == (25.0, 80.0, 60.0)


def test_more_memory_never_makes_a_smaller_patch_or_batch():
    last = 0
    for memory_gb in (1, 2, 4, 8, 16, 32):
        found = plan(
            volumes((1, 1, 1), shape=(300, 300, 300)), described(numTraining=500), Settings(memory_gb=memory_gb)
        )
        size = np.prod(found.configurations["3d_fullres"].patch_size) * found.configurations["3d_fullres"].batch_size
        assert size >= last
        last = size


def test_presets_share_what_the_default_one_preprocesses():
    small = Settings("resenc_l", memory_gb=0.1, name="mine")
    found = plan(volumes((1, 1, 1), shape=(300, 300, 300)), described(), small)
    assert {name: each.data for name, each in found.configurations.items()} == {
        "2d": "nnUNetPlans_2d",
        "3d_lowres": "mine_3d_lowres",
        "3d_fullres": "nnUNetPlans_3d_fullres",
        "3d_cascade_fullres": "nnUNetPlans_3d_fullres",
    }
    default = plan(volumes((1, 1, 1)), described(), Settings(name="mine"))
    assert [each.data for each in default.configurations.values()] == ["mine_2d", "mine_3d_fullres"]


def test_a_low_resolution_too_close_to_the_full_one_is_dropped():
    kinds = {}
    for size in range(60, 161, 4):
        found = plan(volumes((1, 1, 1), shape=(size, size, size)), described(), Settings(memory_gb=0.5))
        kinds[size] = (
            len(found.configurations),
            any("There is no 3d_lowres, although" in line for line in found.reasons),
        )
    assert set(kinds.values()) == {(2, False), (2, True), (4, False)}


def test_normalisation_by_the_whole_name_and_the_part_that_cropping_leaves():
    names = ("ct", "CT_venous", "noNorm", "T2", "rescale_to_0_1", "rgb_to_0_1")
    cropped = volumes((1, 1, 1), channels=6, median_relative_size_after_cropping=0.7499)
    found = plan(cropped, described(*names)).configurations["2d"]
    assert found.normalisation == ("ct", "zscore", "none", "zscore", "rescale", "rgb")
    assert found.inside_only == (False, True, False, True, False, False)
    whole = volumes((1, 1, 1), channels=6, median_relative_size_after_cropping=0.75)
    assert not any(plan(whole, described(*names)).configurations["2d"].inside_only)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("resenc"), "config.plan.preset='resenc': give one of default, resenc_m, resenc_l, resenc_xl."),
        (Settings(memory_gb=0), "config.plan.memory_gb=0: give a number above 0."),
        (Settings(memory_gb=float("nan")), "config.plan.memory_gb=nan: give a number above 0."),
        (Settings(memory_gb=1e-9), "config.plan.memory_gb=1e-09: no patch of a case of 40 × 50 × 60 voxels fits"),
        (Settings(spacing=(1.0, 0.0, 1.0)), r"config.plan.spacing=\(1.0, 0.0, 1.0\): give three numbers above 0"),
        (Settings(spacing=(1.0, 1.0, 500.0)), "In a spacing of 500 × 1 × 1 mm the median case has 0 × 40 × 50 voxels"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        plan(volumes((1, 1, 1)), described(), settings)


def test_a_fingerprint_of_other_channels():
    with pytest.raises(
        InputError, match=r"x has 2 channels \(CT, T2\) and its fingerprint 1: take the fingerprint again."
    ):
        plan(volumes((1, 1, 1)), described("CT", "T2"))


@pytest.fixture
def files(tmp_path):
    """nnU-Net's two files of the prostate, in a folder of nnU-Net's."""
    folder = tmp_path / "Dataset102_prostate"
    folder.mkdir()
    answers = data_set("prostate")
    for name, values in (("dataset_fingerprint.json", answers["fingerprint"]), ("dataset.json", answers["dataset"])):
        (folder / name).write_text(json.dumps(values))
    return [str(folder / "dataset_fingerprint.json"), str(folder / "dataset.json")]


@pytest.mark.parametrize("preset", ["default", "resenc_l"])
def test_the_command_prints_nnunets_file(files, preset):
    command = [sys.executable, "-m", "unet_jax.plan.planner", *files, f"--preset={preset}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == data_set("prostate")["plans"][PRESETS[preset].planner]
    assert done.stderr == ""


def test_the_commands_options(files, capsys):
    given = ["--memory_gb=4", "--spacing", "1", "2", "3", "--no_transpose", "--plans_name=mine", "--dataset_name=other"]
    assert main([*files, *given]) == 0
    found = json.loads(capsys.readouterr().out)
    settings = Settings(memory_gb=4.0, spacing=(1.0, 2.0, 3.0), transpose=False, name="mine")
    assert found == nnunet_plans.to_json(planned_here("prostate", settings)) | {"dataset_name": "other"}
    assert main([*files, *given[:1], "--spacing=(1.0, 2.0, 3.0)", *given[5:]]) == 0
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--preset=big"], "argument --preset: invalid choice: 'big'"),
        (["--memory_gb=0"], "config.plan.memory_gb=0: give a number above 0."),
        (["--memory_gb=much"], "argument --memory_gb/--gpu_memory_target: invalid float value: 'much'"),
        (["--spacing=1,1"], "config.plan.spacing=(1.0, 1.0): give three numbers above 0"),
        (["--spacing=1,x,1"], "--spacing=1,x,1: give three numbers above 0"),
        (["--colour=red"], "unrecognized arguments: --colour=red"),
    ],
)
def test_the_command_refuses_in_one_line(files, capsys, given, line):
    assert main([*files, *given]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {line}")
    assert len(captured.err.splitlines()) == 1


def test_the_command_names_the_file_that_is_wrong(files, capsys):
    assert main([files[1], files[0]]) == 2
    assert f"{files[0]}:\n  channel_names is missing" in capsys.readouterr().err
    assert main([files[0], "nowhere.json"]) == 2
    assert capsys.readouterr().err == (
        "error: nowhere.json cannot be read (No such file or directory): check the path.\n"
    )


def test_nnunet_reads_no_such_files():
    found = plan(volumes((1, 1, 1)), described(file_ending=".dcm"))
    with pytest.raises(InputError, match=r"x: nnU-Net reads \.bmp, .*: convert the files to write a plan for it\."):
        nnunet_plans.to_json(found)

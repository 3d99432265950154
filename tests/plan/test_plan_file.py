import copy
import dataclasses
import json

import pytest
from nnunet_answers import data_set, planned, planning

from unet_jax.errors import InputError
from unet_jax.plan import nnunet_plans, plan_file
from unet_jax.plan.dataset import from_json as dataset_of
from unet_jax.plan.fingerprint import from_json as fingerprint_of
from unet_jax.plan.plan_file import read_plans, write_plans
from unet_jax.plan.planner import Settings, plan
from unet_jax.plan.plans import with_added
from unet_jax.plan.resample import Resampling

CASCADE = data_set("liver")["plans"]["nnUNetPlannerResEncM"]


def write(folder, values):
    path = folder / "p.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(("name", "planner"), planned())
def test_nnunets_file_comes_back_key_for_key(tmp_path, name, planner):
    values = data_set(name)["plans"][planner]
    plans = read_plans(write(tmp_path, values))
    assert json.dumps(nnunet_plans.to_json(plans)) == json.dumps(values)


@pytest.mark.parametrize(("name", "preset"), [("liver", "resenc_l"), ("rgb_png_1500", "default")])
def test_our_file_comes_back(tmp_path, name, preset):
    answers = data_set(name)
    plans = plan(fingerprint_of(answers["fingerprint"]), dataset_of(answers["dataset"], name), Settings(preset))
    write_plans(tmp_path / "plan.json", plans)
    assert read_plans(tmp_path / "plan.json") == plans
    assert plans.reasons
    # What is inherited stands in the file once.
    written = json.loads((tmp_path / "plan.json").read_text())["configurations"]
    if "3d_cascade_fullres" in written:
        assert written["3d_cascade_fullres"] == {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}


def test_an_edited_file_of_nnunet(tmp_path):
    plans = read_plans(write(tmp_path, planning()["edited_plans"]))
    assert plans.configurations["3d_fullres"].network.features == (4, 8, 16, 32)
    assert plans.configurations["3d_fullres"].batch_size == 2


def test_inheritance_over_several_steps(tmp_path):
    values = copy.deepcopy(CASCADE)
    values["configurations"] |= {
        "mine": {"inherits_from": "larger", "batch_size": 6},
        "larger": {"inherits_from": "3d_fullres", "batch_size": 4, "batch_dice": False},
    }
    found = read_plans(write(tmp_path, values)).configurations
    expected = dataclasses.replace(found["3d_fullres"], batch_size=6, batch_dice=False, inherits_from="larger")
    assert found["mine"] == expected
    again = nnunet_plans.to_json(read_plans(write(tmp_path, values)))
    assert again["configurations"] == values["configurations"]


def test_planning_again_keeps_what_was_added():
    answers = data_set("liver")
    made = plan(fingerprint_of(answers["fingerprint"]), dataset_of(answers["dataset"], "liver"))
    mine = dataclasses.replace(made.configurations["2d"], batch_size=99)
    earlier = dataclasses.replace(made, configurations={"2d": mine, "mine": mine})
    kept = with_added(made, earlier).configurations
    assert kept == {**made.configurations, "mine": mine}


def test_numbers_may_stand_for_lists_and_cases_may_stay_as_they_are(tmp_path):
    values = copy.deepcopy(data_set("hippocampus")["plans"]["ExperimentPlanner"])
    whole = values["configurations"]["3d_fullres"]
    whole["architecture"]["arch_kwargs"] |= {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
    whole |= {"resampling_fn_data": "no_resampling_hack", "resampling_fn_data_kwargs": {}}
    found = read_plans(write(tmp_path, values)).configurations["3d_fullres"]
    assert (found.network.blocks, found.network.decoder_blocks) == ((2, 2, 2, 2), (2, 2, 2))
    assert found.images == Resampling(order=0, enabled=False)
    assert found.masks == Resampling(order=1)


OLD = {
    "n_stages": None,
    "features_per_stage": None,
    "kernel_sizes": "conv_kernel_sizes",
    "strides": "pool_op_kernel_sizes",
    "n_conv_per_stage": "n_conv_per_stage_encoder",
    "n_conv_per_stage_decoder": "n_conv_per_stage_decoder",
}


def aged(values):
    """A plans file as nnU-Net's first releases wrote it."""
    values = copy.deepcopy(values)
    for each in values["configurations"].values():
        if "architecture" in each:
            options = each.pop("architecture")["arch_kwargs"]
            each |= {old: options[new] for new, old in OLD.items() if old}
            each |= {"UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 32, "num_pool_per_axis": [1, 1, 1]}
            each["unet_max_num_features"] = 320 if len(each["patch_size"]) == 3 else 512
    values["foreground_intensity_properties_by_modality"] = values.pop("foreground_intensity_properties_per_channel")
    return values


@pytest.mark.parametrize("name", ["hippocampus", "liver"])
def test_files_of_the_first_releases(tmp_path, name):
    values = data_set(name)["plans"]["ExperimentPlanner"]
    assert read_plans(write(tmp_path, aged(values))) == read_plans(write(tmp_path, values))


def change(path, value):
    """Sets, or for None takes away, what lies under a path of keys."""

    def changed(values):
        *parents, last = path
        for key in parents:
            values = values[key]
        if value is None:
            del values[last]
        else:
            values[last] = value

    return changed


FULL = ("configurations", "3d_fullres")
OPTIONS = (*FULL, "architecture", "arch_kwargs")
INTENSITIES = "foreground_intensity_properties_per_channel"

# What is changed in nnU-Net's plans of the liver, which have a cascade, and the lines that say so.
MALFORMED = {
    "no configurations": (
        change(["configurations"], None),
        "configurations is missing: it must be an object of one configuration or more, each an object {…}.",
    ),
    "a configuration that is a list": (
        change(["configurations", "2d"], [1]),
        'configurations is {"2d": [1], "3d_lowres"',
    ),
    "a name that is a number": (change(["plans_name"], 3), "plans_name is 3: it must be a text."),
    "an unknown key": (change(["batchsize"], 3), "batchsize is unknown: remove it."),
    "an unknown key of a configuration": (
        change([*FULL, "batchsize"], 3),
        "configurations.3d_fullres.batchsize is unknown: did you mean batch_size?",
    ),
    "no patch size": (
        change([*FULL, "patch_size"], None),
        "configurations.3d_fullres.patch_size is missing: it must be a list of 2 or 3 values, each a whole",
    ),
    "a batch of none": (
        change([*FULL, "batch_size"], 0),
        "configurations.3d_fullres.batch_size is 0: it must be a whole number from 1.",
    ),
    "a batch in a text": (
        change([*FULL, "batch_size"], "2"),
        'configurations.3d_fullres.batch_size is "2": it must be a whole number from 1.',
    ),
    "a patch that does not divide": (
        change([*FULL, "patch_size"], [100, 160, 128]),
        "configurations.3d_fullres: patch_size 100 × 160 × 128 does not divide by 16 × 32 × 32, the network's strides: "
        "use 96 × 160 × 128.",
    ),
    "a patch of two axes": (
        change([*FULL, "patch_size"], [160, 128]),
        "configurations.3d_fullres.architecture.arch_kwargs.conv_op is",
        "configurations.3d_fullres.architecture.arch_kwargs.norm_op is",
    ),
    "a spacing of two axes": (
        change([*FULL, "spacing"], [1.0, 1.0]),
        "configurations.3d_fullres: patch_size has 3 axes and spacing 2: give both as many.",
    ),
    "a spacing below 0": (
        change([*FULL, "spacing"], [1.0, -1.0, 1.0]),
        "configurations.3d_fullres.spacing is [1.0, -1.0, 1.0]: it must be a list of 2 or 3 values, each a",
    ),
    "axes that are no order": (
        change(["transpose_forward"], [0, 0, 1]),
        "transpose_forward is [0, 0, 1]: it must be the numbers 0 to 2 in some order, each once.",
    ),
    "a way back that is another": (
        change(["transpose_backward"], [2, 1, 0]),
        "transpose_backward is [2, 1, 0]: transpose_forward [0, 1, 2] is undone by [0, 1, 2].",
    ),
    "an unknown scheme": (
        change([*FULL, "normalization_schemes"], ["MyNormalization"]),
        'configurations.3d_fullres.normalization_schemes is ["MyNormalization"]: it must be a list of values, each',
    ),
    "schemes of another number of channels": (
        change([*FULL, "normalization_schemes"], ["CTNormalization"] * 2),
        "configurations.3d_fullres: the normalisation is given for 2 channels and the plan has intensities of 1:",
    ),
    "an unknown network": (
        change([*FULL, "architecture", "network_class_name"], "my.networks.UMamba"),
        'configurations.3d_fullres.architecture.network_class_name is "my.networks.UMamba": it must be dynamic_network',
    ),
    "an unknown activation": (
        change([*OPTIONS, "nonlin"], "torch.nn.ReLU"),
        'configurations.3d_fullres.architecture.arch_kwargs.nonlin is "torch.nn.ReLU": it must be "torch.nn.Leaky',
    ),
    "a stage too many": (
        change([*OPTIONS, "n_stages"], 7),
        "configurations.3d_fullres.architecture.arch_kwargs.features_per_stage is [32, 64, 128, 256, 320, 320]: it "
        "must be a list of 7 values",
    ),
    "a stride too few": (
        change([*OPTIONS, "strides"], [[1, 1, 1], [2, 2, 2]]),
        "configurations.3d_fullres: the network has 6 stages of features and 2 strides: 6 are needed.",
    ),
    "an even kernel": (
        change([*OPTIONS, "kernel_sizes"], [[3, 3, 3]] * 5 + [[3, 2, 3]]),
        "configurations.3d_fullres: a kernel has 2 samples a side: every number must be odd.",
    ),
    "a first stride": (
        change([*OPTIONS, "strides"], [[2, 2, 2], *[[2, 2, 2]] * 4, [1, 2, 2]]),
        "configurations.3d_fullres: the stride of stage 0 is 2 × 2 × 2: it must be 1",
    ),
    "blocks of a plain network": (
        change([*OPTIONS, "n_conv_per_stage"], [2] * 6),
        "configurations.3d_fullres.architecture.arch_kwargs.n_conv_per_stage is unknown: did you mean",
    ),
    "another resampling": (
        change([*FULL, "resampling_fn_data"], "resample_torch_fornnunet"),
        'configurations.3d_fullres.resampling_fn_data is "resample_torch_fornnunet": it must be "resample_',
    ),
    "an order of 9": (
        change([*FULL, "resampling_fn_data_kwargs", "order"], 9),
        "configurations.3d_fullres.resampling_fn_data_kwargs.order is 9: it must be 0, 1, 2 or 3.",
    ),
    "a parent that is not there": (
        change(["configurations", "3d_cascade_fullres", "inherits_from"], "3d_full"),
        'configurations.3d_cascade_fullres.inherits_from is "3d_full": there is no such configuration.',
    ),
    "a circle": (
        change([*FULL, "inherits_from"], "3d_cascade_fullres"),
        "configurations.3d_cascade_fullres.inherits_from leads back to itself (3d_cascade_fullres → 3d_fullres →",
    ),
    "a stage before that is not there": (
        change(["configurations", "3d_cascade_fullres", "previous_stage"], "lowres"),
        "configurations.3d_cascade_fullres.previous_stage is 'lowres': there is no such configuration.",
    ),
    "a stage before itself": (
        change(["configurations", "3d_cascade_fullres", "previous_stage"], "3d_cascade_fullres"),
        "configurations.3d_cascade_fullres is a stage before or after itself: name another configuration.",
    ),
    "a mistake that is inherited": (
        change([*FULL, "batch_dice"], 1),
        "configurations.3d_fullres.batch_dice is 1: it must be true or false.",
    ),
    "a reader of one's own": (
        change(["image_reader_writer"], "MyIO"),
        'image_reader_writer is "MyIO": it must be "NaturalImage2DIO", "SimpleITKIO", "Tiff3DIO", "NibabelIO" or',
    ),
    "a preprocessor of one's own": (
        change([*FULL, "preprocessor_name"], "MyPreprocessor"),
        'configurations.3d_fullres.preprocessor_name is "MyPreprocessor": it must be "DefaultPreprocessor".',
    ),
    "no intensities": (change([INTENSITIES], None), f"{INTENSITIES} is missing: it must be an object {{…}}."),
    "a percentile that is a text": (
        change([INTENSITIES, "0", "percentile_99_5"], "high"),
        f'{INTENSITIES}.0.percentile_99_5 is "high": it must be a number.',
    ),
}


def lines_of(error, name):
    """The lines of an error, without the file that the first one names."""
    found = str(error.value).splitlines()
    return [found[0].partition(f"{name}: ")[2]] if len(found) == 1 else [line.strip() for line in found[1:]]


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(tmp_path, name):
    changed, *lines = MALFORMED[name]
    values = copy.deepcopy(CASCADE)
    changed(values)
    with pytest.raises(InputError) as error:
        read_plans(write(tmp_path, values))
    found = lines_of(error, "p.json")
    assert len(found) == len(lines), found
    assert all(one.startswith(line) for one, line in zip(found, lines, strict=True)), found


OURS = {
    "of a later version": (
        change(["unet_jax_plan"], 2),
        "unet_jax_plan is 2: this version reads up to 1; use the version that wrote the plan.",
    ),
    "a key misspelt": (
        change(["configurations", "2d", "patchsize"], [8, 8]),
        "configurations.2d.patchsize is unknown: did you mean patch_size?",
    ),
    "a scheme of nnU-Net's": (
        change(["configurations", "2d", "normalisation"], ["CTNormalization"]),
        'configurations.2d.normalisation is ["CTNormalization"]: it must be a list of values, each "zscore", "ct"',
    ),
    "a network that is a name": (
        change(["configurations", "2d", "network"], "unet"),
        'configurations.2d.network is "unet": it must be an object {…}, or null.',
    ),
    "no order of axes": (
        change(["transpose_forward"], None),
        "transpose_forward is missing: it must be the numbers 0 to 2 in some order, each once.",
    ),
    "features of another length": (
        change(["configurations", "2d", "network", "features"], [8, 16]),
        "configurations.2d: the network has 2 stages of features and 8 kernels: 2 are needed.",
        "configurations.2d: the network has 2 stages of features and 8 strides: 2 are needed.",
        "configurations.2d: the network has 2 stages of features and 8 blocks of the encoder: 2 are needed.",
        "configurations.2d: the network has 2 stages of features and 7 convolutions of the decoder: 1 are needed.",
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_malformed_ours(tmp_path, name):
    changed, *lines = OURS[name]
    values = plan_file.to_json(read_plans(write(tmp_path, CASCADE)))
    changed(values)
    with pytest.raises(InputError) as error:
        read_plans(write(tmp_path, values))
    found = lines_of(error, "p.json")
    assert len(found) == len(lines), found
    assert all(one.startswith(line) for one, line in zip(found, lines, strict=True)), found


def test_something_else(tmp_path):
    with pytest.raises(InputError, match="nothing of a plan"):
        read_plans(write(tmp_path, {"labels": {}}))

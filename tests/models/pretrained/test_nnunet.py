import copy
import json
import re

import jax
import jax.numpy as jnp
import networks
import nibabel
import numpy as np
import pytest
import torch_files
from flax import nnx
from nnunet_answers import GOLDEN, data_set
from nnunet_arrays import arrays, state_of
from torch_files import Call

import unet_jax
from unet_jax.inference import predict
from unet_jax.models import build
from unet_jax.models.functional import split_model
from unet_jax.models.pretrained import nnunet, torch_names
from unet_jax.models.pretrained.torch_weights import fill
from unet_jax.plan.plan_file import read_plans
from unet_jax.run.config import read_config

FEATURES, KERNELS = [4, 6, 8, 8], [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]
STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]]
OPTIONS = {"features": FEATURES, "kernels": KERNELS, "strides": STRIDES, "deep_supervision": True, "rank": 3}
DATASET = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
    "numTraining": 200,
    "file_ending": ".nii.gz",
}


def weights_of_nnunet(scale=1.0) -> dict[str, np.ndarray]:
    """Of a network with the layers above, as nnU-Net initialised it, and as it names them."""
    return {key.removeprefix("steps/w0:"): array * scale for key, array in arrays("training").items() if "/w0:" in key}


def plans_of_nnunet() -> dict:
    """The hippocampus's, with the network of the weights."""
    plans = copy.deepcopy(data_set("hippocampus")["plans"]["ExperimentPlanner"])
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {"patch_size": [8, 16, 16], "batch_size": 2, "batch_dice": True}
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": 4,
        "features_per_stage": FEATURES,
        "kernel_sizes": KERNELS,
        "strides": STRIDES,
        "n_conv_per_stage": [2, 2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2, 2],
    }
    return plans


def checkpoint_of_nnunet(weights=None, **other) -> dict:
    weights = weights_of_nnunet() if weights is None else weights
    twice = {f"decoder.{key}": array for key, array in weights.items() if key.startswith("encoder.")}
    twice |= {key.replace(".conv.", ".all_modules.0."): array for key, array in weights.items() if ".conv." in key}
    return {
        "network_weights": weights | twice,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01, "nesterov": True}]},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [0.5]},
        "_best_ema": 0.5,
        "current_epoch": 1000,
        "init_args": {"configuration": "3d_fullres", "fold": 0, "device": Call("torch", "device", ("cuda",))},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    } | other


def write_model(folder, checkpoints, plans=None, dataset=DATASET):
    """A model's folder; `checkpoints` by fold."""
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans or plans_of_nnunet()))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for name, content in checkpoints.items():
        torch_files.write(folder / f"fold_{name}" / "checkpoint_final.pth", content)
    return folder


def network_of_nnunet(weights, outputs):
    """The network of these weights, from a normalised patch to logits."""
    network = nnx.eval_shape(lambda: build("nnunet", 1, outputs, nnx.Rngs(0), **OPTIONS))
    params, batch_stats = fill(network, torch_names.nnunet(network), weights, "They do not fit:")
    graphdef = nnx.graphdef(network)
    compiled = jax.jit(lambda image: nnx.merge(graphdef, params, batch_stats)(image[None])[0][0])
    return lambda image: np.asarray(compiled(image))


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = nnunet.main([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


def refused(capsys, model, out, *options) -> str:
    """The error of a model that is not taken over; nothing is written."""
    code, printed, error = run(capsys, model, out, *options)
    assert (code, printed) == (2, "")
    assert not out.exists()
    assert not list(out.parent.glob(".out*"))
    return error


@pytest.fixture(scope="module")
def taken_over(tmp_path_factory):
    """A model of two folds as runs."""
    folder = tmp_path_factory.mktemp("nnunet")
    folds = {"0": checkpoint_of_nnunet(), "1": checkpoint_of_nnunet(weights_of_nnunet(0.5))}
    assert nnunet.main([str(write_model(folder / "model", folds)), str(folder / "out")]) == 0
    return folder / "out"


def test_every_fold_is_a_run_and_all_are_chosen(taken_over):
    best = json.loads((taken_over / "best.json").read_text())
    assert best["configurations"] == ["3d_fullres"]
    assert best["folds"] == [0, 1]
    plans = read_plans(taken_over / "plan.json")
    for number in (0, 1):
        folder = taken_over / "3d_fullres" / f"fold{number}"
        assert read_plans(folder / "plan.json") == plans
        assert unet_jax.load(folder).classes == ("Anterior", "Posterior")


def test_a_run_has_nnunets_choices(taken_over):
    config = read_config(taken_over / "3d_fullres" / "fold1")
    assert config.plan.configuration == "3d_fullres"
    assert tuple(config.data.patch) == (8, 16, 16)
    assert tuple(config.model.features) == (4, 6, 8, 8)
    assert config.data.fold == 1
    assert config.data.axes == "file"
    assert config.loss.dice.to_dict() == {"weight": 1.0, "smooth": 1e-5, "per_sample": False}
    assert (config.eval.tta, tuple(config.eval.mirror_axes)) == (True, (0, 1, 2))
    assert (config.optim.schedule, config.optim.coupled_decay) == ("poly", True)


def test_a_file_of_any_orientation_is_predicted_in_its_own_axes(taken_over, tmp_path):
    """As SimpleITK reads it; by the affine it would be another image, of which only the place in space is the same."""
    image = np.random.default_rng(0).standard_normal((16, 16, 8)).astype(np.float32)
    affine = nibabel.orientations.inv_ornt_aff([[1, 1], [2, -1], [0, -1]], image.shape)
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / "in" / "a_0000.nii.gz")
    run = taken_over / "3d_fullres" / "fold0"
    predict.predict(run, tmp_path / "in", tmp_path / "out", probabilities=True)
    expected = unet_jax.load(run).probabilities(image.transpose(2, 1, 0)[..., None], spacing=(1.0, 1.0, 1.0))
    for label in (1, 2):
        found = nibabel.load(tmp_path / "out" / f"a_probability_{label}.nii.gz")
        np.testing.assert_allclose(found.get_fdata(), expected[..., label].transpose(2, 1, 0), rtol=0, atol=1e-6)
        np.testing.assert_array_equal(found.affine, affine)


@pytest.mark.parametrize(
    ("reader", "axes"), [("NibabelIO", "file"), ("NibabelIOWithReorient", "ras"), ("NaturalImage2DIO", "patient")]
)
def test_the_reader_of_the_plans_says_which_axes(tmp_path, reader, axes):
    model = write_model(
        tmp_path / "model", {"0": checkpoint_of_nnunet()}, plans_of_nnunet() | {"image_reader_writer": reader}
    )
    nnunet.main([str(model), str(tmp_path / "out")])
    assert read_config(tmp_path / "out" / "3d_fullres" / "fold0").data.axes == axes


def test_a_runs_probabilities_are_those_of_the_networks_weights(taken_over):
    """In an image of one patch, which is one window: the softmax of the mean of logits over eight mirror images."""
    logits = network_of_nnunet(weights_of_nnunet(), 3)
    image = np.random.default_rng(0).standard_normal((8, 16, 16, 1)).astype(np.float32)
    normalised = (image - image.mean()) / image.std()
    total = 0
    for axes in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        total = total + np.flip(logits(np.flip(normalised, axes)), axes)
    expected = jax.nn.softmax(total / 8)
    segment = unet_jax.load(taken_over / "3d_fullres" / "fold0")
    found = segment.probabilities(image, spacing=(1.0, 1.0, 1.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(segment(image, spacing=(1.0, 1.0, 1.0)), np.argmax(expected, -1))


def test_the_folder_of_all_folds_is_loaded_as_their_mean(taken_over):
    """The mean of logits; of weights of one half, all logits are those of another network."""
    image = np.random.default_rng(0).standard_normal((8, 16, 16, 1)).astype(np.float32)
    each = [
        np.log(unet_jax.load(taken_over / "3d_fullres" / f"fold{n}").probabilities(image, spacing=(1.0, 1.0, 1.0)))
        for n in (0, 1)
    ]
    segment = unet_jax.load(taken_over, batch_size=jax.device_count())
    expected = jax.nn.softmax(sum(each) / 2)
    np.testing.assert_allclose(segment.probabilities(image, spacing=(1.0, 1.0, 1.0)), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(segment(image, spacing=(1.0, 1.0, 1.0)), np.argmax(expected, -1))
    assert (segment.classes, segment.step, segment.channels) == (("Anterior", "Posterior"), None, 1)


def test_one_class_beside_the_background_keeps_its_probability(tmp_path, capsys):
    """Of two channels, the softmax is the sigmoid of the one channel that a run has for it."""
    weights = weights_of_nnunet()
    for key in list(weights):
        if "seg_layers" in key:
            weights[key] = weights[key][:2]
    dataset = DATASET | {"labels": {"background": 0, "hippocampus": 1}}
    model = write_model(tmp_path / "model", {"0": checkpoint_of_nnunet(weights)}, dataset=dataset)
    no_mirrors = checkpoint_of_nnunet(weights, inference_allowed_mirroring_axes=None)
    torch_files.write(model / "fold_0" / "checkpoint_final.pth", no_mirrors)
    assert run(capsys, model, tmp_path / "out")[0] == 0
    image = np.random.default_rng(0).standard_normal((8, 16, 16, 1)).astype(np.float32)
    normalised = (image - image.mean()) / image.std()
    expected = jax.nn.softmax(network_of_nnunet(weights, 2)(normalised))
    segment = unet_jax.load(tmp_path / "out" / "3d_fullres" / "fold0")
    found = segment.probabilities(image, spacing=(1.0, 1.0, 1.0))
    np.testing.assert_allclose(found[..., -1] if found.ndim == 4 else found, expected[..., 1], rtol=0, atol=1e-5)


def test_a_residual_network_has_nnunets_names():
    """Every name and shape that nnU-Net has, and no other."""
    network = nnx.eval_shape(
        lambda: build("resenc", 2, 3, nnx.Rngs(0), **OPTIONS, blocks=[1, 2, 2, 2], decoder_blocks=1)
    )
    shapes = json.loads((GOLDEN / "residual_names.json").read_text())
    weights = {key: np.full(shape, number, np.float32) for number, (key, shape) in enumerate(shapes.items())}
    params, _ = fill(network, torch_names.nnunet(network), weights, "They do not fit:")
    assert sum(array.size for array in jax.tree.leaves(params)) == sum(array.size for array in weights.values())
    shortcut = params["encoder"][1]["layers"][0]["shortcut"]["conv"]["kernel"]
    np.testing.assert_array_equal(shortcut, list(shapes).index("encoder.stages.1.blocks.0.skip.1.conv.weight"))


def test_chosen_folds_alone_are_taken_over(tmp_path, capsys):
    model = write_model(tmp_path / "model", {name: checkpoint_of_nnunet() for name in ("0", "1", "all")})
    code, printed, error = run(capsys, model, tmp_path / "out", "--folds", "1")
    assert (code, error) == (0, "")
    assert printed == f"{tmp_path / 'out'}: 3d_fullres of nnUNetTrainer, folds 1.\n"
    assert [path.name for path in (tmp_path / "out" / "3d_fullres").iterdir()] == ["fold1"]


def test_a_trainer_that_may_have_another_network_is_refused_by_name(tmp_path, capsys):
    model = write_model(tmp_path / "model", {"0": checkpoint_of_nnunet(trainer_name="nnUNetTrainerBN")})
    error = refused(capsys, model, tmp_path / "out")
    assert re.search(r"model cannot be taken over: nnUNetTrainerBN is not a trainer of nnU-Net", error)


@pytest.mark.parametrize("trainer", ["nnUNetTrainer_250epochs", "nnUNetTrainer_1epoch", "nnUNetTrainerDiceLoss"])
def test_trainers_of_another_length_or_loss_are_taken_over(tmp_path, capsys, trainer):
    model = write_model(tmp_path / "model", {"0": checkpoint_of_nnunet(trainer_name=trainer)})
    assert run(capsys, model, tmp_path / "out")[0] == 0


def test_unknown_and_missing_arrays_are_all_named(tmp_path, capsys):
    weights = weights_of_nnunet()
    weights["encoder.attention.weight"] = np.ones(3, np.float32)
    missing = weights.pop("decoder.transpconvs.0.bias")
    error = refused(capsys, write_model(tmp_path / "model", {"0": checkpoint_of_nnunet(weights)}), tmp_path / "out")
    assert "checkpoint_final.pth does not fit the network of plans.json" in error
    assert "encoder.attention.weight: found (3,), needed nothing" in error
    assert f"decoder.transpconvs.0.bias: found nothing, needed {missing.shape}" in error


def test_a_damaged_second_fold_leaves_nothing_behind(tmp_path, capsys):
    model = write_model(tmp_path / "model", {"0": checkpoint_of_nnunet(), "1": checkpoint_of_nnunet()})
    path = model / "fold_1" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:-2000])
    assert "fold_1" in refused(capsys, model, tmp_path / "out")


def test_what_a_checkpoint_would_execute_is_refused(tmp_path, capsys):
    evil = checkpoint_of_nnunet(logging=Call("os", "system", ("exit 1",)))
    model = write_model(tmp_path / "model", {"0": evil})
    assert "checkpoint_final.pth holds os.system" in refused(capsys, model, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inference_allowed_mirroring_axes": (0, 5)}, "inference_allowed_mirroring_axes is missing or not"),
        ({"init_args": {}}, "init_args.configuration is missing"),
        ({"network_weights": None}, "it has no network_weights"),
        ({"current_epoch": -1}, "current_epoch is missing or not"),
        ({"init_args": {"configuration": "3d_lowres"}}, "no configuration '3d_lowres'"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, capsys, changes, message):
    model = write_model(tmp_path / "model", {"0": checkpoint_of_nnunet(**changes)})
    assert message in refused(capsys, model, tmp_path / "out")


def test_weights_that_are_not_finite_are_refused(tmp_path, capsys):
    weights = weights_of_nnunet()
    weights["decoder.seg_layers.2.bias"] = np.array([0, np.nan, 0], np.float32)
    error = refused(capsys, write_model(tmp_path / "model", {"0": checkpoint_of_nnunet(weights)}), tmp_path / "out")
    assert "1 array holds NaN or infinity, such as decoder.seg_layers.2.bias" in error


def test_folds_of_different_models_are_refused(tmp_path, capsys):
    folds = {"0": checkpoint_of_nnunet(), "1": checkpoint_of_nnunet(inference_allowed_mirroring_axes=(1, 2))}
    error = refused(capsys, write_model(tmp_path / "model", folds), tmp_path / "out")
    assert "mirror_axes is (1, 2), and that of" in error


def test_regions_have_sigmoids_and_are_painted_in_their_order(tmp_path):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    dataset = DATASET | {"labels": labels, "regions_class_order": [1, 2, 3]}
    folds = {"0": checkpoint_of_nnunet(inference_allowed_mirroring_axes=None)}
    model = write_model(tmp_path / "model", folds, dataset=dataset)
    assert nnunet.main([str(model), str(tmp_path / "out")]) == 0
    segment = unet_jax.load(tmp_path / "out")
    assert segment.classes == ("whole", "core", "enhancing")
    assert segment.members == ((1, 2, 3), (2, 3), (3,))
    assert segment.config.loss.to_dict()["bce"] == {"weight": 1.0}
    # Of the size of a patch, and of the plan's spacing: one window, and nothing resampled.
    image = np.random.default_rng(0).normal(5, 2, (8, 16, 16, 1)).astype(np.float32)
    spacing = tuple(segment.config.data.spacing)
    logits = network_of_nnunet(weights_of_nnunet(), 3)((image - image.mean()) / image.std())
    np.testing.assert_allclose(segment.probabilities(image, spacing), jax.nn.sigmoid(logits), atol=1e-5)
    expected = np.zeros(image.shape[:3], np.uint8)
    for channel, number in enumerate((1, 2, 3)):
        expected[logits[..., channel] > 0] = number
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(segment(image, spacing), expected)


@pytest.mark.parametrize(
    ("labels", "order", "message"),
    [
        ({"a": [1, 2], "b": 3, "c": 4}, [1, 3, 4], "its labels are regions of which none overlap"),
        ({"a": [1, 2, 3], "b": [2, 3], "c": 3}, [1, 1, 3], "regions_class_order writes 1 for a region that does not"),
    ],
)
def test_regions_that_no_run_can_have_are_refused(tmp_path, capsys, labels, order, message):
    dataset = DATASET | {"labels": {"background": 0} | labels, "regions_class_order": order}
    model = write_model(tmp_path / "model", {"0": checkpoint_of_nnunet()}, dataset=dataset)
    assert message in refused(capsys, model, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "3"], "has no fold_3; it has 0"),
        (["--checkpoint", "best"], "has no checkpoint_best.pth: take --checkpoint=final"),
        (["--checkpoint", "last"], "--checkpoint is 'last'"),
        (["--folds", "all", "0"], "--folds has all"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(tmp_path, capsys, options, message):
    model = write_model(tmp_path / "model", {"0": checkpoint_of_nnunet()})
    assert message in refused(capsys, model, tmp_path / "out", *options)


def test_another_folder_is_told_what_is_needed(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    error = refused(capsys, tmp_path / "empty", tmp_path / "out")
    assert "it has no plans.json, dataset.json, fold_0. Give the folder TRAINER__PLANS__CONFIGURATION" in error


def test_nothing_is_written_over(tmp_path, capsys):
    model = write_model(tmp_path / "model", {"0": checkpoint_of_nnunet()})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    code, _, error = run(capsys, model, tmp_path / "out")
    assert code == 2
    assert "is there already: name another folder" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("name", "configuration", "options"),
    [
        ("nnunet", "2d", {"rank": 2, "blocks": [1, 2, 1], "decoder_blocks": [2, 1]}),
        ("resenc", "2d", {"rank": 2, "blocks": [1, 2, 1], "decoder_blocks": [1, 1]}),
        ("resenc", "3d_fullres", {"rank": 3, "blocks": [1, 1, 2], "decoder_blocks": [1, 1]}),
    ],
)
def test_slices_and_residual_encoders_are_taken_over(tmp_path, capsys, name, configuration, options):
    """Of slices, every one is a window; the volume is one patch."""
    rank = options["rank"]
    features, strides = [3, 4, 5], [[1] * rank, [2] * rank, [2] * rank]
    network = networks.make(name, 1, 3, features=features, strides=strides, deep_supervision=True, **options)
    graphdef, params, _ = split_model(network)
    plans = plans_of_nnunet()
    planned = plans["configurations"][configuration]
    planned["patch_size"] = [8, 16, 16][-rank:]
    residual = name == "resenc"
    arguments = planned["architecture"]["arch_kwargs"]
    arguments.pop("n_conv_per_stage")
    arguments |= {
        "n_stages": 3,
        "features_per_stage": features,
        "kernel_sizes": [[3] * rank] * 3,
        "strides": strides,
        "n_blocks_per_stage" if residual else "n_conv_per_stage": options["blocks"],
        "n_conv_per_stage_decoder": options["decoder_blocks"],
    }
    if residual:
        unet = "dynamic_network_architectures.architectures.unet."
        planned["architecture"]["network_class_name"] = unet + "ResidualEncoderUNet"
    weights = state_of(params, network)
    content = checkpoint_of_nnunet(
        weights, init_args={"configuration": configuration}, inference_allowed_mirroring_axes=None
    )
    model = write_model(tmp_path / "model", {"0": content}, plans)
    assert run(capsys, model, tmp_path / "out")[0] == 0
    image = np.random.default_rng(0).standard_normal((8, 16, 16, 1)).astype(np.float32)
    normalised = jnp.asarray((image - image.mean()) / image.std())
    batch = normalised if rank == 2 else normalised[None]
    expected = jax.nn.softmax(jax.jit(lambda batch: nnx.merge(graphdef, params, {})(batch)[0])(batch)).reshape(
        8, 16, 16, 3
    )
    found = unet_jax.load(tmp_path / "out" / configuration / "fold0").probabilities(image, spacing=(1.0, 1.0, 1.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

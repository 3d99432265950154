import json
import re
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from golden import state_dicts

from unet_jax.errors import InputError
from unet_jax.models import build
from unet_jax.models.functional import split_model
from unet_jax.models.pretrained import torch_weights, weights
from unet_jax.models.pretrained.torch_weights import convert

RESNEXT = {"width": 2, "depths": [2, 1, 2, 1], "cardinality": 2, "group_width": 2}


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = torch_weights.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def options_on_the_command_line(options: dict) -> list[str]:
    return [f"--option={key}={json.dumps(value)}" for key, value in options.items()]


@pytest.mark.parametrize(
    ("model", "file", "classes", "options"),
    [
        ("tutorial", "tutorial_weights", 1, {"width": 2}),
        ("buda2019", "buda2019_weights", 1, {"width": 2}),
        ("fpn", "fpn", 2, {"width": 2, "pyramid_width": 8, "groups": 4}),
        ("resnext50_unet", "resnext", 2, RESNEXT),
    ],
)
def test_the_command_brings_over_all_weights(tmp_path, capsys, model, file, classes, options):
    state = state_dicts.load(file).state
    safetensors.numpy.save_file(state, tmp_path / "in.safetensors")
    code, out, err = run(
        capsys,
        tmp_path / "in.safetensors",
        tmp_path / "out",
        f"--model={model}",
        f"--num_classes={classes}",
        *options_on_the_command_line(options),
    )
    assert (code, err) == (0, "")

    params, stats = weights.load(tmp_path / "out")
    for loaded, converted in zip((params, stats), convert(state, model, num_classes=classes, **options), strict=True):
        jax.tree.map(np.testing.assert_array_equal, loaded, converted)
    # the description builds the network, which the weights fill
    description = json.loads((tmp_path / "out" / "model.json").read_text())
    like = split_model(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0), **description)))[1:]
    assert jax.tree.map(jnp.shape, like) == jax.tree.map(jnp.shape, (params, stats))
    count = sum(array.size for array in jax.tree.leaves(params))
    assert out == f"{tmp_path / 'out'}: {model}, {count:,} parameters.\n"


@pytest.mark.parametrize("model", ["tutorial", "buda2019"])
def test_converted_weights_give_pytorchs_logits(model):
    expected = state_dicts.load(f"{model}_weights")
    converted = convert(expected.state, model, width=2)
    state_dicts.check(model, {"width": 2}, converted, expected)


def test_torchvisions_file_is_the_encoder_of_the_whole_network(tmp_path):
    state = state_dicts.load("resnext").state
    whole, whole_stats = convert(state, "resnext50_unet", num_classes=2, **RESNEXT)
    torchvision = {key.removeprefix("base_model."): x for key, x in state.items() if key.startswith("base_model.")}
    assert {"conv1.weight", "layer3.1.bn2.running_var", "fc.bias"} <= torchvision.keys()
    params, stats = convert(torchvision, "resnext50_encoder", **RESNEXT)
    assert list(params) == list(stats) == ["encoder"]
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], whole["encoder"])
    jax.tree.map(np.testing.assert_array_equal, stats["encoder"], whole_stats["encoder"])

    weights.save(tmp_path, params, stats, {})
    before = jax.tree.map(np.zeros_like, (whole, whole_stats))
    after, after_stats = weights.initialise(*before, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, after, before[0] | params)
    jax.tree.map(np.testing.assert_array_equal, after_stats, whole_stats)


@pytest.fixture
def state() -> dict[str, np.ndarray]:
    return state_dicts.load("buda2019_weights").state


def test_all_keys_that_do_not_fit_are_listed_and_nothing_is_written(tmp_path, capsys, state):
    del state["encoder1.enc1norm1.running_mean"]
    state["encoder1.enc1norm1.running_maen"] = np.zeros(2, np.float32)
    state["upconv2.weight"] = np.zeros((8, 4, 3, 3), np.float32)
    file = tmp_path / "in.safetensors"
    safetensors.numpy.save_file(state, file)
    code, out, err = run(capsys, file, tmp_path / "out", "--model=buda2019", "--option=width=2")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"error: {file} does not fit buda2019 with in_channels 3, num_classes 1, width 2:",
        "  encoder1.enc1norm1.running_mean: found nothing, needed (2,)",
        "  upconv2.weight: found (8, 4, 3, 3), needed (8, 4, 2, 2)",
        "  encoder1.enc1norm1.running_maen: found (2,), needed nothing",
    ]
    assert not (tmp_path / "out").exists()


def test_another_number_of_channels_names_the_first_and_last_convolution(state):
    with pytest.raises(InputError) as error:
        convert(state, "buda2019", in_channels=1, num_classes=2, width=2)
    assert [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]] == [
        "encoder1.enc1conv1.weight",
        "conv.weight",
        "conv.bias",
    ]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("unet", {}, r"--model is 'unet'; .*buda2019, fpn"),
        ("buda2019", {"norm": "group"}, "--option has norm; buda2019 takes width, depth alone"),
    ],
)
def test_what_cannot_be_converted_names_the_flag(state, model, options, message):
    with pytest.raises(InputError, match=message):
        convert(state, model, **options)


@pytest.mark.parametrize("text", ["width", "width=wide", "width=2.5", 'width="2"', "width=[2, null]"])
def test_an_option_is_a_whole_number_or_a_list_of_them(tmp_path, capsys, text):
    code, _, err = run(capsys, tmp_path / "x.pt", tmp_path / "out", "--model=fpn", f"--option={text}")
    assert code == 2
    assert err.startswith(f"error: --option={text}: give a whole number")


def test_half_precision_becomes_float32(state):
    half = {key: x.astype(jnp.bfloat16) if x.ndim else x for key, x in state.items()}
    params, stats = convert(half, "buda2019", width=2)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, stats))} == {"float32"}


class Tensor:
    """As much of a torch.Tensor as reading needs."""

    def __init__(self, array):
        self.array = array

    def float(self):
        return Tensor(np.asarray(self.array, np.float32))

    def numpy(self):
        return self.array


@pytest.fixture
def torch(monkeypatch) -> SimpleNamespace:
    """A torch whose files hold what the test sets as `content`."""
    fake = SimpleNamespace(Tensor=Tensor, content=None)

    def load(path, *, map_location, weights_only):
        assert (map_location, weights_only) == ("cpu", True)
        if isinstance(fake.content, Exception):
            raise fake.content
        return fake.content

    fake.load = load
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_torchs_files_are_read_as_weights_only(tmp_path, torch, state, suffix):
    path = tmp_path / f"in.{suffix}"
    path.touch()
    torch.content = {key: Tensor(x) for key, x in state.items()}
    read = torch_weights.read(path)
    jax.tree.map(np.testing.assert_array_equal, read, state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"conv.weight": Tensor(0)}}, "holds more than named arrays"),
        ([Tensor(0)], "holds more than named arrays"),
        ({1: Tensor(0)}, "holds more than named arrays"),
        (ValueError("much\nadvice"), r"no whole file of weights alone \(ValueError\)"),
    ],
)
def test_a_torch_file_of_anything_else_says_what_to_save(tmp_path, torch, content, message):
    (tmp_path / "in.pt").touch()
    torch.content = content
    with pytest.raises(InputError, match=rf"in\.pt .*{message}.*state_dict\(\)"):
        torch_weights.read(tmp_path / "in.pt")


@pytest.mark.parametrize(("suffix", "package"), [("pt", "torch"), ("safetensors", "safetensors")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, suffix, package):
    for name in (package, f"{package}.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / f"in.{suffix}"
    path.touch()
    with pytest.raises(InputError, match=f"{re.escape(str(path))} needs .*pip install {package}"):
        torch_weights.read(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path, state):
    safetensors.numpy.save_file(state, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-10])
    for name, message in (
        ("cut.safetensors", "no whole safetensors file"),
        ("none.safetensors", "is no file"),
        ("in.onnx", "suffix '.onnx'"),
    ):
        with pytest.raises(InputError, match=rf"{re.escape(str(tmp_path / name))}.*{message}"):
            torch_weights.read(tmp_path / name)

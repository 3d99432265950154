import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import data_sets
import jax
import networks
import numpy as np
import pytest

from unet_jax.errors import InputError
from unet_jax.export import export
from unet_jax.inference.network import load_network
from unet_jax.models.functional import split_model
from unet_jax.run import checkpoint
from unet_jax.run import resume as identity
from unet_jax.runtime.mesh import data_mesh

DOCS = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture(scope="module")
def config(settings, configure):
    return configure(settings)


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    """A run of which step 7 is saved, with random weights."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    _, params, batch_stats = split_model(networks.make(in_channels=3, num_classes=1, **config.model))
    checkpoint.prepare(folder / "checkpoints")
    checkpoint.save(folder / "checkpoints", 7, {"model": {"params": params, "batch_stats": batch_stats}}, 0.5)
    identity.record(folder, config, data_sets.of(channels=3))
    return folder


@pytest.fixture(scope="module")
def network(config, workdir):
    return load_network(workdir, config, data_mesh())[0]


def images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def documented(package):
    """The code of docs/export.md that imports `package`."""
    [code] = [block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL) if package in block]
    return code


def run_alone(code, folder):
    """Runs the code in `folder`, in a process that cannot import unet_jax."""
    alone = f"import sys\nsys.modules['unet_jax'] = None\nimport numpy as np\n{code}"
    command = [sys.executable, "-I", "-c", alone]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_zip_file_works_as_the_docs_say_without_this_package(workdir, network, tmp_path, capsys):
    facts = export.export(workdir, tmp_path / "tumour.zip")
    assert facts["max_difference"] <= 1e-6
    assert facts["channels"] == ["pre-contrast", "FLAIR", "post-contrast"]
    said = capsys.readouterr().out
    assert said.endswith(f"probabilities, over 3,072 real pixels: {facts['max_difference']:.1e}.\n")
    batches = {"as trained": images(1, 16, 16, 3), "odd": images(5, 21, 33, 3)}
    np.savez(tmp_path / "images.npz", **batches)
    found = """
images = np.load("images.npz")
np.savez("found.npz", **{name: network.call(images[name]) for name in images})
np.savez("masks.npz", **{name: segment(images[name]) for name in images})
"""
    run_alone(documented("jax.export") + found, tmp_path)
    found, masks = np.load(tmp_path / "found.npz"), np.load(tmp_path / "masks.npz")
    for name, batch in batches.items():
        expected = np.asarray(network(batch))
        assert found[name].shape == batch.shape[:-1]
        np.testing.assert_allclose(found[name], expected, atol=1e-6)
        np.testing.assert_array_equal(masks[name], found[name] >= 0.5)


def test_the_facts_say_what_goes_in_and_what_is_left_to_do(workdir, config, tmp_path):
    facts = export.export(workdir, tmp_path / "tumour.zip")
    with zipfile.ZipFile(tmp_path / "tumour.zip") as file:
        assert json.loads(file.read("metadata.json")) == facts
        program = jax.export.deserialize(bytearray(file.read("network.stablehlo")))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert facts["run"] == "run"
    assert facts["checkpoint_step"] == 7
    assert facts["input"] == {"shape": ["batch", "height", "width", 3], "dtype": "uint8"}
    assert facts["output"]["shape"] == ["batch", "height", "width"]
    assert facts["model"] == config.model.to_dict()
    assert (facts["image_size"], facts["slab"], facts["threshold"]) == (16, None, 0.5)
    assert facts["postprocess"] == {"minimum_voxels": 0, "largest_component": False}


def test_a_file_that_is_there_is_kept_unless_told_otherwise(workdir, tmp_path):
    output = tmp_path / "tumour.zip"
    output.write_text("mine")
    with pytest.raises(InputError, match=r"tumour.zip exists: name another file, or add --overwrite."):
        export.export(workdir, output)
    assert output.read_text() == "mine"
    export.export(workdir, output, overwrite=True)
    assert zipfile.is_zipfile(output)


def test_a_file_that_differs_from_the_checkpoint_is_not_written(workdir, tmp_path, monkeypatch):
    run = export.stablehlo.run
    monkeypatch.setattr(export.stablehlo, "run", lambda program, image: run(program, image) + np.float32(2e-5))
    with pytest.raises(InputError, match=r"was not written: .* differ .* by 2.0e-05 .* at most 1e-05"):
        export.export(workdir, tmp_path / "tumour.zip")
    monkeypatch.setattr(export.stablehlo, "run", lambda program, image: run(program, image) * np.float32("nan"))
    with pytest.raises(InputError, match=r"differ .* by nan"):
        export.export(workdir, tmp_path / "tumour.zip")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tumour", "tumour.pt"])
def test_a_suffix_that_names_no_format(workdir, tmp_path, name):
    with pytest.raises(InputError, match=r"must end with \.zip or \.onnx"):
        export.export(workdir, tmp_path / name)


def test_other_data_to_try_it_on(workdir, write_scan, tmp_path, capsys):
    write_scan(tmp_path / "data", "TCGA_AB_1234_20000101", images(1, 8, 8, 3), np.ones((1, 8, 8), np.uint8))
    export.export(workdir, tmp_path / "tumour.zip", data=tmp_path / "data")
    assert "over 64 real pixels" in capsys.readouterr().out


def test_onnx_works_as_the_docs_say_without_this_package(workdir, network, tmp_path):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    facts = export.export(workdir, tmp_path / "tumour.onnx")
    assert facts["input"] == {"shape": ["batch", "height", "width", 3], "dtype": "uint8"}
    assert facts["max_difference"] <= 1e-6
    assert facts["channels"] == ["pre-contrast", "FLAIR", "post-contrast"]
    batches = {"as trained": images(5, 32, 32, 3), "odd": images(2, 21, 33, 3)}
    np.savez(tmp_path / "images.npz", **batches)
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    code = """
images = np.load("images.npz")
assert facts == json.load(open("facts.json"))
found = {name: session.run(["probability"], {"image": images[name]})[0] for name in images}
np.savez("found.npz", **found)
for name in images:
    np.testing.assert_array_equal(segment(images[name]), found[name] >= 0.5)
    np.testing.assert_allclose(session.run(["probability"], {"image": images[name][:1]})[0], found[name][:1], atol=1e-6)
"""
    run_alone(documented("onnxruntime") + code, tmp_path)
    found = np.load(tmp_path / "found.npz")
    for name, batch in batches.items():
        np.testing.assert_allclose(found[name], np.asarray(network(batch)), atol=1e-6)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_extra_is_named(workdir, tmp_path, monkeypatch, package):
    if package == "onnxruntime":
        pytest.importorskip("onnx", reason="the extra onnx is not installed")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install \.\[onnx\]"):
        export.export(workdir, tmp_path / "tumour.onnx")
    assert not list(tmp_path.iterdir())

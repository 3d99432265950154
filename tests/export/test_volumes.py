import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import networks
import nibabel
import numpy as np
import pytest
import volumes as files

import unet_jax
from unet_jax.data import load
from unet_jax.errors import InputError
from unet_jax.export import export, volumes
from unet_jax.files import read_json, write_sealed_json
from unet_jax.inference.predict import predict
from unet_jax.models.functional import split_model
from unet_jax.plan import plan_file, run_plan
from unet_jax.run import checkpoint
from unet_jax.run import resume as identity

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
SETTINGS = {
    "data.source": "nifti",
    "data.patch": (8, 8, 8),
    "data.spacing": (1.2, 1.1, 0.9),
    "train.batch_size": 2,
    "eval.tta": True,
    "eval.checkpoint": "newest",
    "model": {"name": "nnunet", "features": (4, 8), "rank": 3, "deep_supervision": True},
    "augment.transpose": 0.0,
    "augment.rot90": 0.0,
    "augment.affine.probability": 0.0,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return files.write(tmp_path_factory.mktemp("data") / "Dataset001_Balls", cases=3)


@pytest.fixture(scope="module")
def workdir(configure, root, tmp_path_factory):
    """A run of which step 7 is saved, with random weights."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = configure(SETTINGS | {"data.root": str(root), "data.cache": str(folder.parent / "cache")})
    data = load.load(config)
    config, plan = run_plan.resolve(config, data, folder)
    _, params, batch_stats = split_model(networks.make(in_channels=1, num_classes=3, **config.model))
    # Heads whose weights sum to 0, so that each class is the likeliest somewhere.
    for head in params["heads"].values():
        head["kernel"] = 5 * (head["kernel"] - head["kernel"].mean(-2, keepdims=True))
        head["bias"] = 0 * head["bias"]
    checkpoint.prepare(folder / "checkpoints")
    checkpoint.save(folder / "checkpoints", 7, {"model": {"params": params, "batch_stats": batch_stats}}, 0.5)
    plan_file.write_sealed(folder / plan_file.NAME, plan.plans)
    identity.record(folder, config, data)
    return folder


def read(path):
    return nibabel.load(path).get_fdata(dtype=np.float32)


def test_the_zip_file_makes_predicts_masks_without_this_package(workdir, root, tmp_path, capsys):
    facts = export.export(workdir, tmp_path / "tumour.zip")
    assert "0 of " in capsys.readouterr().out
    image = read(root / "imagesTr" / "case_0_0000.nii.gz")
    seen = image[::-1, ::-1].transpose(2, 1, 0)[..., None]  # as radiologists look at it
    assert facts["input"] == {"shape": list(seen.shape), "dtype": "float32"}
    assert facts["output"]["probability"]["shape"] == [*seen.shape[:3], 3]
    assert (facts["channels"], facts["classes"]) == (["MRI"], ["a", "b"])
    assert facts["spacing"] == pytest.approx((1.2, 1, 1))
    assert facts["mirror_axes"] == [[0, 1, 2]]
    assert (facts["axes"], facts["checkpoint_step"], facts["mask_differs"]) == ("patient", 7, 0)
    assert facts["max_difference"] < 1e-5

    np.save(tmp_path / "image.npy", np.ascontiguousarray(seen))
    [loading] = [
        code for code in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL) if "jax.export" in code
    ]
    [calling] = [
        code for code in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL) if "mask, prob" in code
    ]
    code = (
        "import sys\nsys.modules['unet_jax'] = None\nimport numpy as np\nimage = np.load('image.npy')\n"
        f"{loading}\n{calling}\nnp.savez('found.npz', mask=mask, probability=probability)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")

    predict(workdir, root / "imagesTr" / "case_0_0000.nii.gz", tmp_path / "masks", probabilities=True)
    [path] = (tmp_path / "masks").glob("*_mask.nii.gz")
    expected = read(path)[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_array_equal(found["mask"], expected)
    assert len(np.unique(expected)) > 1
    for label in (1, 2):
        [path] = (tmp_path / "masks").glob(f"*_probability_{label}.nii.gz")
        np.testing.assert_allclose(
            found["probability"][..., label], read(path)[::-1, ::-1].transpose(2, 1, 0), rtol=0, atol=1e-5
        )


def test_a_file_is_for_the_shape_and_spacing_that_are_named(workdir, tmp_path):
    facts = export.export(workdir, tmp_path / "a.zip", shape=(9, 20, 13), spacing=(2.0, 1.0, 0.7))
    assert (facts["input"]["shape"], facts["spacing"]) == ([9, 20, 13, 1], [2.0, 1.0, 0.7])
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert json.loads(file.read("metadata.json")) == facts
        program = jax.export.deserialize(bytearray(file.read("network.stablehlo")))
    assert program.platforms == ("cpu", "cuda", "tpu")
    image = np.random.default_rng(0).normal(100, 20, (9, 20, 13, 1)).astype(np.float32)
    mask, _ = program.call(image)
    np.testing.assert_array_equal(mask, unet_jax.load(workdir)(image, spacing=(2.0, 1.0, 0.7)))


def test_the_onnx_file_has_the_network_and_says_what_is_left(workdir, tmp_path, capsys):
    import onnxruntime

    facts = export.export(workdir, tmp_path / "a.onnx")
    assert "the network and its softmax alone" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["unet_jax"]) == facts
    assert facts["input"]["shape"] == ["batch", 8, 8, 8, 1]
    assert (facts["channels"], facts["classes"]) == (["MRI"], ["a", "b"])
    assert facts["spacing"] == [1.2, 1.1, 0.9]
    assert facts["normalisation"][0]["scheme"] == "zscore"
    assert facts["left"][2].startswith("normalise")
    # A patch that a case consists of, on the run's spacing: nothing else is left to do but its normalisation.
    image = np.random.default_rng(0).normal(100, 20, (8, 8, 8, 1)).astype(np.float32)
    normalised = (image - image.mean()) / image.std()
    total = 0
    for axes in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        [found] = session.run(["probability"], {"image": np.flip(normalised, axes)[None]})
        total = total + np.flip(np.log(found[0]), axes)
    expected = unet_jax.load(workdir).probabilities(image, spacing=(1.2, 1.1, 0.9))
    np.testing.assert_allclose(jax.nn.softmax(total / 8), expected, rtol=0, atol=1e-5)


def test_a_file_that_differs_is_not_written(workdir, tmp_path, monkeypatch):
    run = volumes.stablehlo.run
    monkeypatch.setattr(volumes.stablehlo, "run", lambda *given: (1 - run(*given)[0], run(*given)[1]))
    with pytest.raises(InputError, match=r"of the mask's voxels differ from predict's in case_0"):
        export.export(workdir, tmp_path / "a.zip")
    monkeypatch.setattr(volumes.onnx_file, "run", lambda program, image: np.float32("nan"))
    with pytest.raises(InputError, match="differ from the checkpoint's by nan in a patch of case_0"):
        export.export(workdir, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_the_second_network_of_a_cascade_is_refused(workdir, tmp_path):
    config = read_json(workdir / "config.json")
    copy = tmp_path / "run"
    copy.mkdir()
    write_sealed_json(copy / "config.json", config | {"plan": config["plan"] | {"previous": "masks"}})
    with pytest.raises(InputError, match="the second network of a cascade, which is given another one's masks"):
        export.export(copy, tmp_path / "a.zip")


def test_images_of_other_channels_are_refused(workdir, tmp_path):
    image = nibabel.Nifti1Image(np.ones((9, 9, 9, 2), np.float32), np.eye(4))
    nibabel.save(image, tmp_path / "two.nii.gz")
    with pytest.raises(InputError, match="two has 2 channels, and the network takes 1"):
        export.export(workdir, tmp_path / "a.zip", data=tmp_path / "two.nii.gz")

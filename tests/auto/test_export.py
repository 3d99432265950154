import json
import zipfile

import jax
import nibabel
import numpy as np
import pytest

import unet_jax
from unet_jax.auto import best as best_file
from unet_jax.auto.export import export
from unet_jax.auto.predict import predict
from unet_jax.errors import InputError
from unet_jax.share.pack import pack


def test_what_was_chosen_is_one_program(workdir, raw, tmp_path):
    scan = raw / "imagesTr" / "ball_2_0000.nii.gz"
    facts = export(workdir, tmp_path / "balls.zip", data=scan)
    best = best_file.read(workdir)
    assert (facts["configurations"], facts["folds"]) == (list(best.configurations), [0, 1])
    assert facts["classes"] == ["shell", "core"]
    assert len(facts["postprocess"]) == len(best.postprocessing)
    with zipfile.ZipFile(tmp_path / "balls.zip") as file:
        assert json.loads(file.read("metadata.json")) == facts
        program = jax.export.deserialize(bytearray(file.read("network.stablehlo")))
    predict(workdir, scan, tmp_path / "masks", probabilities=True)
    # Of the file's axes, as nnU-Net reads them, the last are the slices.
    image = nibabel.load(scan).get_fdata(dtype=np.float32).transpose(2, 1, 0)
    _, probability = program.call(np.ascontiguousarray(image)[..., None])
    for label in (1, 2):
        [path] = (tmp_path / "masks").glob(f"*_probability_{label}.nii.gz")
        expected = nibabel.load(path).get_fdata().transpose(2, 1, 0)
        np.testing.assert_allclose(probability[..., label], expected, rtol=0, atol=1e-5)


def test_two_configurations_are_no_onnx_file(workdir, copied, raw, tmp_path):
    best = best_file.read(workdir)
    both = best_file.Best(("wide", "2d"), best.folds, (), {})
    best_file.write(copied, both)
    scan = raw / "imagesTr" / "ball_2_0000.nii.gz"
    with pytest.raises(InputError, match="2 configurations predict together"):
        export(copied, tmp_path / "balls.onnx", data=scan)
    assert export(copied, tmp_path / "balls.zip", data=scan)["mask_differs"] < 1e-3


def test_before_the_choice_its_runs_are_named(copied, tmp_path):
    (copied / "best.json").unlink()
    with pytest.raises(InputError, match=r"nothing is chosen yet: .* or export one of its runs, such as"):
        export(copied, tmp_path / "balls.zip")


def test_a_pack_of_the_choice_segments_as_its_folder_does(workdir, tmp_path):
    pack(workdir, tmp_path / "choice.zip")
    image = np.random.default_rng(0).normal(size=(4, 20, 20, 1)).astype(np.float32)
    of_folder, of_pack = unet_jax.load(workdir), unet_jax.load(tmp_path / "choice.zip")
    both = [each.probabilities(image, (1.0, 1.0, 1.0)) for each in (of_folder, of_pack)]
    np.testing.assert_array_equal(*both)
    assert of_folder.classes == of_pack.classes == ("shell", "core")

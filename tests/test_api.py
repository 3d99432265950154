import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import data_sets
import jax.numpy as jnp
import networks
import numpy as np
import pytest

import unet_jax
from unet_jax.data import load
from unet_jax.errors import DamageError, InputError
from unet_jax.files import read_json, write_sealed_json
from unet_jax.inference import postprocess
from unet_jax.inference.network import load_network
from unet_jax.inference.segment import segment_cases
from unet_jax.inference.settings import SegmentSettings
from unet_jax.models.functional import split_model
from unet_jax.run import checkpoint, resume
from unet_jax.run import folder as run_folder
from unet_jax.runtime.mesh import data_mesh

DOCS = Path(__file__).parents[1] / "docs"


def save(folder, config, *step_numbers):
    """A run with random weights."""
    for seed, number in enumerate(step_numbers):
        _, params, batch_stats = split_model(networks.make(in_channels=3, num_classes=1, **config.model))
        params["head"]["bias"] -= 0.1 * seed
        checkpoint.prepare(folder / "checkpoints")
        items = {"model": {"params": params, "batch_stats": batch_stats}}
        checkpoint.save(folder / "checkpoints", number, items, number / 10)
    resume.record(folder, config, data_sets.of(channels=3))
    return folder


@pytest.fixture(scope="module")
def config(settings, configure):
    return configure(settings | {"model.width": 4, "model.norm": "instance", "eval.postprocess.minimum_voxels": 4})


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    return save(tmp_path_factory.mktemp("runs") / "run", config, 3, 4)


@pytest.fixture(scope="module")
def segment(workdir):
    return unet_jax.load(workdir)


@pytest.fixture(scope="module")
def cases(config):
    return load.load(config).cases


def as_evaluated(workdir, cases, config):
    """The masks of whole cases that `evaluate` scores."""
    index = np.array([(position, n) for position, case in enumerate(cases) for n in range(len(case.image))], np.int32)
    network, _ = load_network(workdir, config, data_mesh())
    found = segment_cases(network, cases, index, SegmentSettings.of(config, data_mesh()), title="")
    return [postprocess.apply(mask, config.eval.postprocess.to_dict()) for _, _, mask in found]


def test_masks_are_those_of_evaluate_to_the_bit(workdir, segment, config, cases):
    expected = as_evaluated(workdir, cases, config)
    assert 0.01 < np.mean(np.concatenate(expected)) < 0.99
    for case, mask in zip(cases, expected, strict=True):
        found = segment(case.image)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, mask)


def test_pictures_volumes_and_several_volumes_of_any_size(segment):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 18, 3), np.uint8)
    several = segment(images)
    assert several.shape == images.shape[:-1]
    for volume, mask in zip(images, several, strict=True):
        np.testing.assert_array_equal(segment(volume), mask)
        np.testing.assert_array_equal(segment(jnp.asarray(volume)), mask)
    picture = segment(images[1, 2])
    assert picture.shape == (24, 18)
    np.testing.assert_array_equal(picture, segment(images[1, 2][None])[0])


def test_a_mask_is_the_probabilities_from_the_threshold_on_after_postprocessing(segment, cases):
    probabilities = segment.probabilities(cases[0].image)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == cases[0].image.shape[:-1]
    raw = (probabilities >= 0.5).astype(np.uint8)
    np.testing.assert_array_equal(segment(cases[0].image), postprocess.remove_small(raw, 4))
    np.testing.assert_array_equal(segment.probabilities(cases[0].image[2]), probabilities[2])


def test_floats_are_what_the_network_sees(segment, cases):
    image = cases[0].image
    np.testing.assert_allclose(
        segment.probabilities(image.astype(np.float32) / 255), segment.probabilities(image), atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["i1", "u2", "i2", ">u4", "i4", "u8", "i8"])
def test_whole_numbers_of_any_type_are_the_same_picture(segment, cases, dtype):
    image = cases[0].image[0] // 2
    np.testing.assert_array_equal(segment.probabilities(image.astype(dtype)), segment.probabilities(image))


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4"])
def test_real_numbers_of_any_type_are_the_same_picture(segment, cases, dtype):
    image = (cases[0].image[0] // 64 / 4).astype(np.float32)
    np.testing.assert_array_equal(segment.probabilities(image.astype(dtype)), segment.probabilities(image))


def test_a_batch_of_its_own_size(workdir, segment, cases):
    one = unet_jax.load(str(workdir), batch_size=1)
    np.testing.assert_allclose(one.probabilities(cases[0].image), segment.probabilities(cases[0].image), atol=1e-5)


def test_what_it_knows_of_its_run(segment, config):
    assert (segment.step, segment.channels) == (4, 3)
    assert repr(segment) == (
        "<Segmenter: tutorial, step 4; 3 channels (pre-contrast, FLAIR, post-contrast) → one class>"
    )
    assert segment.config.model.to_dict() == config.model.to_dict()


def test_intensities_are_stretched_as_the_readers_do(config, tmp_path, cases):
    with config.copy_and_resolve_references().unlocked() as volume:
        volume.data.intensity = "volume"
    folder = save(tmp_path / "run", volume, 1)
    image = cases[0].image.astype(np.float32)
    segment = unet_jax.load(folder)
    np.testing.assert_allclose(segment.probabilities(3 * image), segment.probabilities(image), atol=1e-5)


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\); it must be \[h, w, c\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), "none of them 0"),
        (np.zeros((8, 8, 3), complex), "the image is complex128; it must be whole or real numbers"),
        (np.full((8, 8, 3), 256, np.uint16), "uint16 from 256 to 256; the network was trained on 8 bits"),
        (np.full((8, 8, 3), -1, np.int64), "int64 from -1 to -1; the network was trained on 8 bits"),
        (np.zeros((8, 8, 2), np.uint8), r"\(8, 8, 2\); the network was trained on 3 channels"),
        (np.full((8, 8, 3), np.nan, np.float32), "image 1: 192 pixels of the image are NaN"),
    ],
)
def test_what_cannot_be_segmented_is_said(segment, image, line):
    with pytest.raises(InputError, match=line):
        segment(image)


def test_a_damaged_checkpoint_is_a_warning_as_long_as_another_is_whole(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    checkpoints = tmp_path / "run" / run_folder.CHECKPOINTS
    for path in (checkpoints / "4" / "model").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="checkpoint 4 .* is damaged: .* step 3, the newest that is whole"):
        assert unet_jax.load(tmp_path / "run").step == 3
    (checkpoints / "3" / "manifest.json").unlink()
    with pytest.raises(DamageError, match="is whole"):
        unet_jax.load(tmp_path / "run")


def test_the_code_in_the_docs_runs(workdir, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "default").symlink_to(workdir)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "api.md").read_text(), re.DOTALL)
    names = {}
    exec("".join(blocks), names)
    assert names["mask"].shape == names["probability"].shape == names["truth"].shape
    assert 0 < names["loss"] < 10


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        unet_jax.load(tmp_path)


def test_the_public_names_are_there_and_start_jax_only_when_used():
    code = """
import sys
import unet_jax
assert {"load", "models", "losses", "metrics"} <= set(dir(unet_jax))
import unet_jax.data.case, unet_jax.data.formats.lgg, unet_jax.data.formats.sources, unet_jax.data.phantom
assert "jax" not in sys.modules
unet_jax.models.build, unet_jax.losses.dice, unet_jax.metrics.dice, unet_jax.load
assert "jax" in sys.modules
try:
    unet_jax.train_everything
except AttributeError as error:
    assert "train_everything" in str(error)
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_images_on_another_scale_than_training_are_warned_of(workdir, tmp_path):
    trained = [{"low": [0, 0.1], "median": [0.3, 0.4], "high": [0.9, 1], "width": [0.8, 1]}] * 3
    shutil.copytree(workdir, tmp_path / "run")
    path = tmp_path / "run" / run_folder.DATA
    recorded = read_json(path) | {"intensities": {"types": ["uint8"], "channels": trained}}
    write_sealed_json(path, recorded)
    segment = unet_jax.load(tmp_path / "run")
    image = np.broadcast_to(np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16, 1), (16, 16, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segment(image)
    with pytest.warns(RuntimeWarning, match=r"1 case is on another scale of intensities than training \(image 1: the"):
        segment(image // 8)

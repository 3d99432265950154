import data_sets
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from lines import Line, Lines, sigmoid, softmax

from unet_jax.errors import InputError
from unet_jax.files import write_json
from unet_jax.inference.network import image_channels, input_channels, load_network, make_probability_step, with_flips
from unet_jax.models.functional import split_model
from unet_jax.run import checkpoint, resume
from unet_jax.runtime.mesh import data_mesh

SIZE = 8


def _probability(image, model=None):
    graphdef, params, batch_stats = split_model(model or Line())
    return make_probability_step(graphdef, image_size=SIZE)(params, batch_stats, jnp.asarray(image))


@pytest.mark.parametrize("shape", [(3, 8, 8, 3), (3, 6, 8, 3), (3, 8, 5, 3), (2, 4, 6, 8, 3)])
def test_probabilities_come_in_the_images_own_geometry(shape):
    """Nothing is resized here, only padded to 8×8 and cut again; the last are volumes."""
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = _probability(image)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, sigmoid(2 * (image[..., 0] / 255) - 0.5), rtol=1e-5)


def test_probabilities_have_the_images_size_whatever_the_network_sees():
    """A bright half: its edge comes back where it was, though the network saw 8×8 pixels."""
    image = np.zeros((1, 20, 32, 1), np.float32)
    image[:, :, 16:] = 1
    found = _probability(image, Line(slope=20.0, offset=-10.0))
    assert found.shape == (1, 20, 32)
    np.testing.assert_array_equal(found[0, 4:-4] >= 0.5, image[0, 4:-4, :, 0] >= 0.5)


def test_probabilities_of_several_classes_take_the_place_of_channels():
    image = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8)
    found = _probability(image, Lines())
    expected = softmax(2 * (image[..., 0] / 255) - 0.5)
    np.testing.assert_allclose(found, np.moveaxis(expected, 0, -1), rtol=1e-5)


def test_probabilities_of_bfloat16_logits_are_float32():
    class Half(Line):
        def __call__(self, image):
            return super().__call__(image).astype(jnp.bfloat16)

    found = _probability(np.full((1, 8, 8, 1), 255, np.uint8), Half())
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, sigmoid(1.5), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 3, 5, 4, 3)])
@pytest.mark.parametrize(
    ("flips", "calls"), [([], 1), (["rows"], 2), (["columns"], 2), (["columns", "rows"], 4), (("rows", "columns"), 4)]
)
def test_flips_are_turned_back_and_averaged(shape, flips, calls):
    """The network's answer adds the place within the image as it sees it, which flips take to its mirror images."""
    rows, columns = np.meshgrid(np.arange(5.0), np.arange(4.0), indexing="ij")

    seen = []

    def probability(image):
        seen.append(image)
        return image[..., 0] + rows + 10 * columns

    image = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    found = with_flips(probability, flips)(jnp.asarray(image))
    places = (2 if "rows" in flips else rows) + 10 * (1.5 if "columns" in flips else columns)
    np.testing.assert_allclose(found, image[..., 0] + places, rtol=1e-5)
    assert len(seen) == calls


def test_without_flips_the_function_is_itself():
    assert with_flips(_probability, ()) is _probability


@pytest.fixture
def saved(settings, configure, tmp_path):
    """A run of two channels and one class, of which a checkpoint is there."""
    config = configure(settings)
    _, params, batch_stats = split_model(networks.make(in_channels=2, num_classes=1, **config.model))
    checkpoint.prepare(tmp_path / "checkpoints")
    checkpoint.save(tmp_path / "checkpoints", 4, {"model": {"params": params, "batch_stats": batch_stats}}, 0.5)
    resume.record(tmp_path, config, data_sets.of(channels=2))
    return tmp_path, config


def test_the_network_takes_the_channels_that_the_run_noted(saved):
    workdir, config = saved
    probability, restored = load_network(workdir, config, data_mesh())
    assert (restored.step, restored.as_wanted) == (4, True)
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 2), np.uint8)
    model = networks.make(in_channels=2, num_classes=1, **config.model)
    logits = np.asarray(model(jnp.asarray(image / 255, jnp.float32)))[..., 0]
    np.testing.assert_allclose(probability(image), sigmoid(logits), atol=1e-5)


def test_of_a_run_that_noted_none_the_channels_are_those_that_fit_its_checkpoint(saved):
    """Runs before version 0.1 noted their files alone, older ones not even these."""
    workdir, config = saved
    write_json(workdir / "data.json", {"a.tif": {"bytes": 1, "sha256": ""}})
    assert image_channels(workdir, config) == 2
    (workdir / "data.json").unlink()
    assert image_channels(workdir, config) == 2
    assert load_network(workdir, config, data_mesh())[1].step == 4
    with pytest.raises(InputError, match="does not say how many channels its images have"):
        image_channels(workdir.parent / "nothing", config)


def test_with_neighbours_there_are_more_channels_than_the_images_have(settings, configure):
    assert input_channels(configure(settings), 3) == 3
    assert input_channels(configure(settings | {"data.neighbours": 2}), 3) == 15

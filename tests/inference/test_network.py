import jax.numpy as jnp
import numpy as np
import pytest
from lines import Line, Lines, sigmoid, softmax

from unet_jax.inference.network import make_probability_step
from unet_jax.models.functional import split_model

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

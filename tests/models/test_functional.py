import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unet_jax.models.functional import forward, logit_channels


def test_networks_have_a_channel_for_background_where_classes_exclude_each_other():
    assert [logit_channels(classes) for classes in (1, 2, 3)] == [1, 3, 4]
    assert logit_channels(3, overlap=True) == 3


class Valid(nnx.Module):
    """The first sequence less three pixels at every border, from images that a network of two poolings takes."""

    divisor, margin = 4, 3

    def __call__(self, image):
        assert all((n - self.margin) % self.divisor == 0 for n in image.shape[1:-1])
        inside = (slice(self.margin, -self.margin),) * (image.ndim - 2)
        return image[(slice(None), *inside, slice(1))]


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 9, 12, 1), (1, 6, 8, 10, 1)])
def test_a_network_without_padding_answers_every_pixel(shape):
    """Each logit belongs to the pixel in the middle of what it saw, so these are the image itself."""
    image = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    np.testing.assert_array_equal(forward(Valid(), image), image[..., :1])


def test_what_stands_around_the_image_is_its_mirror_image():
    class Outside(Valid):
        def __call__(self, image):
            return image[..., :1][:, : -2 * self.margin]  # what lies three pixels up and to the left

    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 1)), jnp.float32)
    seen = forward(Outside(), image)[0, :, :, 0]
    np.testing.assert_array_equal(seen[:4, 3:], image[0, 3::-1, :5, 0])

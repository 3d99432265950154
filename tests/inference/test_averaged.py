import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.inference.averaged import averaged


def test_one_network_without_mirroring_is_itself():
    network = jax.jit(lambda image: image)
    assert averaged([network]) is network


def test_the_mean_over_all_flips_of_the_axes_and_networks():
    image = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 1)).astype(np.float32)
    ramp = np.arange(4, dtype=np.float32)[:, None, None] + 10 * np.arange(5, dtype=np.float32)[:, None]
    seen = []

    def network(image):
        seen.append(np.asarray(image))
        return image * ramp

    found = averaged([network, lambda image: jnp.ones_like(image)], (1, 2))(jnp.asarray(image))
    # Rows and columns are counted from both ends: their mean is that of the ramp. The depth is never mirrored.
    np.testing.assert_allclose(found, (image * ramp.mean() + 1) / 2, rtol=1e-5)
    assert len(seen) == 4
    for axes in ((), (2,), (3,), (2, 3)):
        assert any(np.array_equal(np.flip(image, axes), each) for each in seen)


def test_what_follows_the_image_goes_to_every_network():
    networks = [lambda image, sizes: image[..., 0] + sizes.sum(), lambda image, sizes: 3 * image[..., 0]]
    found = averaged(networks)(jnp.ones((1, 2, 2, 1)), jnp.array([[2, 2]]))
    np.testing.assert_array_equal(found, np.full((1, 2, 2), 4.0))

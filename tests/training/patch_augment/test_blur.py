import jax
import jax.numpy as jnp
import numpy as np
import pytest
from patch_transforms import assert_share, golden, part

from unet_jax.training.patch_augment.blur import blur, gaussians, random_blur
from unet_jax.training.patch_augment.settings import Chance

KEY = jax.random.key(0)


@pytest.mark.parametrize("deviation", ["0.5", "0.75", "1.0"])
def test_blur_along_an_axis_is_nnunets(deviation):
    deviations = jnp.zeros((3, 2)).at[1].set(float(deviation))
    found = blur(golden("im3"), gaussians(deviations, 3))
    np.testing.assert_allclose(part(found), golden(f"blur3_axis1_sigma{deviation}"), atol=1e-5)


def test_blur_along_all_axes_is_nnunets():
    found = blur(golden("im3"), gaussians(jnp.full((3, 2), 0.7), 3))
    np.testing.assert_allclose(part(found), golden("blur3_all_sigma0.7"), atol=1e-5)


def test_a_kernel_is_as_long_as_the_odd_number_nearest_to_6_deviations_and_a_half():
    # 3.5, 3.98, 4.1, 5.9 and 6.5 voxels.
    kernels = gaussians(jnp.array([[0.5, 0.58, 0.6, 0.9, 1.0]]), 3)
    assert (np.asarray(kernels) > 0).sum(0)[0].tolist() == [3, 3, 5, 5, 7]
    np.testing.assert_allclose(kernels.sum(0), 1, rtol=1e-6)


def test_channels_are_blurred_each_by_itself():
    image = jax.random.normal(KEY, (5, 6, 2))

    @jax.jit
    @jax.vmap
    def many(key):
        return random_blur(key, image, Chance(0.4, (0.5, 1.0), each=0.5))

    changed = (many(jax.random.split(KEY, 2000)) != image).any((1, 2))
    assert_share(changed[:, 0], 0.2)
    assert_share(changed[:, 1], 0.2)
    assert_share(changed.all(1), 0.1)

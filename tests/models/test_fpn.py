import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import state_dicts

from unet_jax.errors import InputError
from unet_jax.models import build
from unet_jax.models.fpn import enlarge
from unet_jax.models.pretrained.torch_weights import convert

SMALL = {"width": 2, "pyramid_width": 4, "groups": 2}


def test_equals_pytorch():
    expected = state_dicts.load("fpn")
    options = {"width": 2, "pyramid_width": 8, "groups": 4}
    weights = convert(expected.state, "fpn", num_classes=2, **options)
    state_dicts.check("fpn", options, weights, expected)


@pytest.mark.parametrize("image", [(2, 64, 32, 1), (1, 32, 32, 64, 2)])
def test_logits_have_the_images_size(image):
    options = SMALL | {"rank": len(image) - 2}
    model = nnx.eval_shape(lambda: build("fpn", image[-1], 3, nnx.Rngs(0), **options))
    logits = nnx.eval_shape(lambda model, image: model(image), model, jnp.zeros(image))
    assert logits.shape == (*image[:-1], 3)


@pytest.mark.parametrize(("size", "factor"), [((1, 3), 4), ((2, 5), 2), ((4, 3, 2), 3)])
def test_enlarging_interpolates_between_the_first_and_the_last_sample(size, factor):
    image = np.random.default_rng(0).normal(size=(1, *size, 2)).astype(np.float32)
    expected = image
    for axis, n in enumerate(size, start=1):
        places = np.linspace(0, n - 1, factor * n)
        expected = np.apply_along_axis(lambda y: np.interp(places, np.arange(len(y)), y), axis, expected)  # noqa: B023
    enlarged = jax.jit(enlarge, static_argnums=1)(jnp.asarray(image), factor)
    np.testing.assert_allclose(enlarged, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 1}, r"rank is 1"),
        ({"width": 0}, r"width is 0"),
        ({"pyramid_width": 6, "groups": 4}, r"pyramid_width is 6 and groups 4.*multiple"),
        ({"groups": 0}, r".*groups 0"),
    ],
)
def test_an_argument_out_of_range_is_named(options, message):
    with pytest.raises(InputError, match=message):
        build("fpn", 1, 1, nnx.Rngs(0), **SMALL | options)


def test_size_must_divide():
    with pytest.raises(InputError, match=r"\(48, 64\).*divide by 32.*\(32, 64\) or \(64, 64\)"):
        nnx.eval_shape(lambda: build("fpn", 1, 1, nnx.Rngs(0), **SMALL)(jnp.zeros((1, 48, 64, 1))))

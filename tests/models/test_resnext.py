import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from golden import state_dicts

from unet_jax.errors import InputError
from unet_jax.models import build
from unet_jax.models.pretrained.torch_weights import convert

SMALL = {"width": 2, "depths": (1, 2), "cardinality": 2, "group_width": 2}


def test_equals_pytorch():
    expected = state_dicts.load("resnext")
    options = {"width": 2, "depths": (2, 1, 2, 1), "cardinality": 2, "group_width": 2}
    weights = convert(expected.state, "resnext50_unet", num_classes=2, **options)
    state_dicts.check("resnext50_unet", options, weights, expected)


def test_number_of_parameters():
    model = nnx.eval_shape(lambda: build("resnext50_unet", 3, 1, nnx.Rngs(0)))
    parts = {
        name: sum(leaf.size for leaf in jax.tree.leaves(nnx.state(part, nnx.Param)))
        for name, part in (("whole", model), ("encoder", model.encoder))
    }
    # torchvision's resnext50_32x4d has 25,028,904, of which its classifier 2048·1000 + 1000
    assert parts == {"whole": 30_947_777, "encoder": 25_028_904 - 2_049_000}


@pytest.mark.parametrize("image", [(2, 12, 8, 1), (1, 4, 4, 8, 2)])
def test_logits_have_the_images_size(image):
    options = SMALL | {"rank": len(image) - 2}
    model = nnx.eval_shape(lambda: build("resnext50_unet", image[-1], 3, nnx.Rngs(0), **options))
    logits = nnx.eval_shape(lambda model, image: model(image), model, jnp.zeros(image))
    assert logits.shape == (*image[:-1], 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 1}, r"rank is 1"),
        ({"width": 0}, r"width is 0"),
        ({"cardinality": 0}, r".*cardinality 0"),
        ({"group_width": 0}, r".*group_width 0"),
        ({"depths": ()}, r"depths is \(\)"),
        ({"depths": [3, 0]}, r"depths is \(3, 0\)"),
    ],
)
def test_an_argument_out_of_range_is_named(options, message):
    with pytest.raises(InputError, match=message):
        build("resnext50_unet", 1, 1, nnx.Rngs(0), **SMALL | options)


def test_size_must_divide():
    with pytest.raises(InputError, match=r"\(6, 8\).*divide by 4.*\(4, 8\) or \(8, 8\)"):
        nnx.eval_shape(lambda: build("resnext50_unet", 1, 1, nnx.Rngs(0), **SMALL)(jnp.zeros((1, 6, 8, 1))))

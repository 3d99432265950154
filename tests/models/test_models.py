import inspect
import math

import golden
import jax
import jax.numpy as jnp
import networks
import pytest
from flax import nnx
from ml_collections import ConfigDict
from traced import equations

from unet_jax import models
from unet_jax.errors import InputError
from unet_jax.models.functional import split_model

# network → parameters for 3 → 1 channels
PARAMETERS = {
    "tutorial": 7_782_913,
    "unet2015": 31_031_745,
    "buda2019": 7_763_041,
    "fpn": 25_238_593,
    "resnext50_unet": 30_947_777,
    "nnunet": 33_469_409,
    "resenc": 105_914_401,
}
NNUNET_3D = {"features": (32, 64, 128, 256, 320, 320), "rank": 3}

UNET = {"width": 2, "depth": 2}
NNUNET = {"features": (2, 3), "blocks": 2}
FPN = {"width": 2, "pyramid_width": 4, "groups": 2}
RESNEXT = {"width": 2, "depths": (1, 2), "cardinality": 2, "group_width": 2}
# every choice that adds or changes a layer, small: (network, options, image size)
SMALL = [
    ("tutorial", UNET, (4, 8)),
    ("tutorial", UNET | {"norm": "instance", "activation": "silu", "rank": 3}, (4, 6, 8)),
    ("tutorial", UNET | {"norm": "group", "up": "nearest", "activation": "gelu", "attention": True}, (8, 8)),
    ("unet2015", UNET | {"activation": "leaky_relu", "dropout": 0.0}, (20, 22)),
    ("buda2019", UNET | {"depth": 3, "deep_supervision": True}, (8, 8)),
    ("fpn", FPN, (32, 32)),
    ("resnext50_unet", RESNEXT, (4, 4)),
    ("nnunet", NNUNET | {"features": (2, 3, 4), "deep_supervision": True}, (8, 8)),
    ("resenc", NNUNET | {"kernels": ((1, 3, 3), 3), "strides": (1, (1, 2, 2)), "rank": 3}, (3, 8, 8)),
]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [(name, {}, expected) for name, expected in PARAMETERS.items()]
    + [("nnunet", NNUNET_3D, 31_195_745), ("resenc", NNUNET_3D | {"blocks": (1, 3, 4, 6, 6, 6)}, 102_349_921)],
)
def test_number_of_parameters(name, options, expected):
    model = nnx.eval_shape(lambda: models.build(name, 3, 1, nnx.Rngs(0), **options))
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == expected


# the other choices' gradients are seen where the networks are compared with PyTorch's
@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("tutorial", UNET | {"norm": "batch", "up": "nearest"}, (4, 6)),
        ("tutorial", UNET | {"norm": "instance", "up": "transposed", "rank": 3}, (4, 6, 8)),
        ("tutorial", UNET | {"padding": "valid", "rank": 3, "activation": "silu"}, (18, 18, 20)),
        pytest.param("fpn", FPN, (64, 32), marks=pytest.mark.slow),
        pytest.param("resnext50_unet", RESNEXT, (12, 8), marks=pytest.mark.slow),
    ],
)
def test_every_parameter_has_a_gradient(name, options, size):
    graphdef, params, batch_stats = split_model(networks.make(name, **options))

    @jax.jit
    @jax.grad
    def gradient_of_loss(params, image):
        logits = nnx.merge(graphdef, params, batch_stats)(image)
        return jnp.mean(logits**2)

    gradients = gradient_of_loss(params, networks.image(2, *size, 1))
    networks.check_gradients(golden.flatten(gradients))


@pytest.mark.parametrize(("name", "options", "size"), SMALL)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_dtype_reaches_every_layer(name, options, size, dtype, monkeypatch):
    # Where no layer has a faster form, each is one product; the faster forms' tests hold their types.
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    model = nnx.eval_shape(lambda: models.build(name, 1, 1, nnx.Rngs(0), dtype=dtype, **options))
    graphdef, params, batch_stats = split_model(model)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, batch_stats))} == {"float32"}

    def logits_of(params, batch_stats, image):
        return nnx.merge(graphdef, params, batch_stats)(image)

    image = jax.ShapeDtypeStruct((1, *size, 1), jnp.float32)
    jaxpr, logits = jax.make_jaxpr(logits_of, return_shape=True)(params, batch_stats, image)
    assert {each.dtype.name for each in jax.tree.leaves(logits)} == {dtype}
    found = list(equations(jaxpr.jaxpr))
    products = [each for each in found if each.primitive.name in ("conv_general_dilated", "dot_general")]
    convolutions = [m for _, m in nnx.iter_modules(model) if isinstance(m, nnx.Conv | nnx.ConvTranspose)]
    assert len(products) == len(convolutions) > 4
    assert {x.aval.dtype.name for each in products for x in each.invars + each.outvars} == {dtype}
    # between the products too: normalisations alone look at their features in float32
    between = [each for each in found if each.primitive.name in ("max", "concatenate", "reduce_max", "logistic")]
    assert {x.aval.dtype.name for each in between for x in each.outvars if x.aval.ndim >= 4} <= {dtype}


def test_signature():
    assert str(inspect.signature(models.build)).startswith("(name: str, in_channels: int, num_classes: int, rngs")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {}, r"^name is 'unet'; .*tutorial.*buda2019.*resenc"),
        ("tutorial", {"widht": 4}, r"^widht is not an option of 'tutorial', which takes .*width"),
        ("nnunet", {"width": 4}, r"^width is not an option of 'nnunet', which takes .*features"),
        ("tutorial", {"dtype": "float16"}, r"^dtype is 'float16'; .*bfloat16"),
        ("tutorial", {"dtype": "half-ish"}, r"^dtype is 'half-ish'; .*bfloat16"),
    ],
)
def test_what_cannot_be_built_names_the_argument_or_the_key(name, options, message):
    with pytest.raises(InputError, match=message):
        models.build(name, 3, 1, nnx.Rngs(0), **options)
    with pytest.raises(InputError, match=message.replace("^", r"^config\.model\.")):
        models.of_config(ConfigDict({"name": name, **options}), 3, 1, nnx.Rngs(0))

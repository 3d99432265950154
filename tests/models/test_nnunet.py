import golden
import jax
import jax.numpy as jnp
import networks
import pytest
from flax import nnx

from unet_jax.errors import InputError
from unet_jax.models import build

ANISOTROPIC = {"kernels": ((1, 3, 3), 3, 3), "strides": (1, (1, 2, 2), 2), "rank": 3}


@pytest.mark.parametrize(
    ("name", "network", "options"),
    [
        ("nnunet", "nnunet", {"features": (4, 6, 8), "blocks": (1, 2, 2), "decoder_blocks": (2, 1)}),
        ("nnunet3d", "nnunet", {"features": (2, 4, 5), **ANISOTROPIC}),
        ("resenc", "resenc", {"features": (4, 6, 6), "blocks": (1, 2, 2)}),
        ("resenc3d", "resenc", {"features": (2, 4, 5), "blocks": (1, 2, 1), **ANISOTROPIC}),
    ],
)
def test_equals_pytorch(name, network, options):
    deep = network == "nnunet"
    golden.check(name, network, tolerance=1e-4, training=deep, deep_supervision=deep, **options)


def test_lists_do_what_tuples_do():
    # a config comes back from JSON with lists
    lists = {"features": [2, 4, 5], "kernels": [[1, 3, 3], 3, 3], "strides": [1, [1, 2, 2], 2], "rank": 3}
    tuples = {"features": (2, 4, 5), **ANISOTROPIC}
    graphdefs = [
        nnx.graphdef(nnx.eval_shape(lambda options=options: build("nnunet", 1, 1, nnx.Rngs(0), **options)))
        for options in (lists, tuples)
    ]
    assert graphdefs[0] == graphdefs[1]


def test_deep_supervision_gives_every_stage_of_the_decoder_in_training_only():
    model = networks.make("nnunet", features=(2, 3, 4), deep_supervision=True)
    view = nnx.view(model, deterministic=True)
    both = jax.jit(lambda image: (model(image), view(image)))
    outputs, logits = both(networks.image(1, 4, 8, 1))
    assert [each.shape for each in outputs] == [(1, 4, 8, 2), (1, 2, 4, 2)]
    assert jnp.array_equal(logits, outputs[0])


def test_a_residual_block_starts_as_its_shortcut():
    model = build("resenc", 1, 1, nnx.Rngs(0), features=(2, 2), blocks=1, strides=1)
    x = networks.image(1, 4, 4, 2)
    assert jnp.array_equal(model.encoder[0](x), jax.nn.leaky_relu(x, 0.01))


def test_size_must_divide_by_the_strides():
    model = nnx.eval_shape(lambda: build("nnunet", 1, 1, nnx.Rngs(0), features=(2, 2, 2), **ANISOTROPIC))
    assert model.divisor == (2, 4, 4)
    with pytest.raises(InputError, match=r"\(3, 4, 4\).*divide by \(2, 4, 4\): use \(2, 4, 4\) or \(4, 4, 4\)"):
        model(jnp.zeros((1, 3, 4, 4, 1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 1}, r"rank is 1"),
        ({"features": (4,)}, r"features is \(4,\).*two stages or more"),
        ({"features": (4, 0)}, r"features is \(4, 0\)"),
        ({"kernels": 4}, r"kernels is .*odd"),
        ({"kernels": (3, 3)}, r"kernels is \(3, 3\); .*list of 3, one a stage or of 2 numbers"),
        ({"kernels": (3, 3, (1, 3, 3))}, r"kernels"),
        ({"strides": (2, 2, 2)}, r"strides is .*first stage"),
        ({"strides": 0}, r"strides is .*at least 1"),
        ({"blocks": (2, 2)}, r"blocks is \(2, 2\); .*list of 3"),
        ({"decoder_blocks": (1, 1, 1)}, r"decoder_blocks is .*list of 2, one a stage;"),
    ],
)
def test_an_argument_out_of_range_is_named(options, message):
    with pytest.raises(InputError, match=message):
        build("nnunet", 1, 1, nnx.Rngs(0), **{"features": (2, 2, 2)} | options)

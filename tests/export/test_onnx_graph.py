import functools

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

from unet_jax.errors import InputError
from unet_jax.export import onnx_file
from unet_jax.inference.network import make_probability_step
from unet_jax.models.functional import split_model

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


def largest_difference(function, x, trace=onnx_file.trace_fixed, others=()):
    """Between the function and the ONNX model made for one image: on several, on one, and on batches of other sizes."""
    program = trace(function, x[:1])
    onnx.checker.check_model(program, full_check=True)
    differences = []
    for images in (x, *others):
        expected = np.asarray(function(images))
        for count in (len(images), 1):
            found = onnx_file.run(program, images[:count])
            assert found.shape == (count, *expected.shape[1:])
            differences.append(np.abs(found - expected[:count]).max())
    return np.max(differences)  # NaN counts, which the built-in max may pass over


FLOATS = np.random.default_rng(0).standard_normal((3, 4, 6, 2)).astype(np.float32)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.flip(x, (1, 2))[:, :, 1:3],
        lambda x: x[:, 0, :, 1:],
        lambda x: jax.lax.slice_in_dim(x, 1, 6, 2, 2),
        lambda x: jnp.stack([x, -x], 2).reshape(-1, 8, 6, 2),
        lambda x: jnp.concatenate([x, jnp.abs(x)[:, :2]], 1),
        lambda x: jnp.pad(x, [(0, 0), (1, 0), (2, 3), (0, 0)], constant_values=7.0),
        lambda x: jax.lax.pad(x, 0.0, [(0, 0, 0), (-1, 2, 0), (0, -2, 0), (0, 0, 0)]),
        lambda x: jnp.where(x > 0, x, x * jnp.arange(2)),
        lambda x: jnp.max(x, (1, 3)) + jnp.zeros(6),
        lambda x: jnp.minimum(x, 0) * ((x >= -1) & (x < 1) & (x <= 0.5)) / 2 - (x == 0) - 1,
        lambda x: x + jnp.ones((x.shape[0], 1, 1, 1)),
        lambda x: jax.lax.platform_dependent(x, cpu=lambda x: x + 0, cuda=lambda x: x * 2, default=lambda x: 0 + x),
    ],
)
def test_operations_that_round_nothing(function):
    assert largest_difference(function, FLOATS) == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.einsum("bhwc,wv->bvhc", x, jnp.cos(jnp.arange(30.0)).reshape(6, 5)),
        lambda x: jnp.einsum("bhwc,bhvc->bwv", x, x),
        lambda x: jax.lax.rsqrt(1 + x**2) + jnp.sqrt(jnp.square(x)) - x**3,
        lambda x: jax.nn.gelu(x) + jax.nn.silu(x) + jax.nn.leaky_relu(x),
        jax.nn.softmax,
        lambda x: jnp.log(jnp.mean(jnp.exp(x), (1, 2))) / jnp.var(x, (1, 2)),
    ],
)
def test_operations_that_round(function):
    assert largest_difference(function, FLOATS) <= 1e-5


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.pad(x, [(0, 0), (x.shape[1] // 2, 1), (0, x.shape[2] % 4), (0, 0)]),
        lambda x: x[:, x.shape[1] // 3 : x.shape[1] - 1, jax.core.min_dim(x.shape[2] - 1, 2) :],
        lambda x: x + jnp.arange(x.shape[2])[:, None] + jnp.ones(x.shape[1:]).sum() * x.shape[1],
        lambda x: x - (x.shape[1] - 2 * x.shape[2]) // 4 + x.shape[1] ** 2,
        lambda x: x.reshape(-1, x.shape[1] * x.shape[2], 2),
    ],
)
def test_operations_on_open_sizes(function):
    others = [np.ones((2, *size, 2), np.float32) for size in ((9, 5), (4, 13))]
    assert largest_difference(function, FLOATS, onnx_file.trace, others) == 0


NETWORKS = {
    "tutorial": ("tutorial", {"width": 2, "depth": 2}, (20, 16)),
    "attention": ("tutorial", {"width": 2, "depth": 2, "norm": "group", "attention": True, "up": "nearest"}, (16, 16)),
    "3-D": ("tutorial", {"width": 2, "depth": 2, "norm": "instance", "rank": 3}, (4, 20, 16)),
    "unet2015": ("unet2015", {"width": 2, "depth": 2}, (16, 16)),
    "buda2019": ("buda2019", {"width": 2, "depth": 2}, (16, 16)),
    "fpn": ("fpn", {"width": 2, "pyramid_width": 4, "groups": 2}, (32, 32)),
    "resnext": ("resnext50_unet", {"width": 4, "depths": (1, 1), "cardinality": 2, "group_width": 2}, (16, 16)),
    "resenc": ("resenc", {"features": (2, 4), "strides": (1, 2), "blocks": (1, 1), "decoder_blocks": 1}, (16, 16)),
}


@pytest.mark.parametrize(("name", "options", "size"), NETWORKS.values(), ids=NETWORKS)
def test_every_network(name, options, size):
    graphdef, params, batch_stats = split_model(networks.make(name, 3, 1, **options))
    step = make_probability_step(graphdef, image_size=32 if name == "fpn" else 16)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    assert largest_difference(lambda image: step(params, batch_stats, image), images) <= 1e-5


@pytest.mark.parametrize(
    ("options", "slab", "sizes"),
    [({}, (), [(20, 16), (16, 16), (9, 33)]), ({"norm": "instance", "rank": 3}, (4,), [(20, 16), (7, 24)])],
    ids=["2-D", "3-D"],
)
def test_a_network_on_images_of_other_rows_and_columns(options, slab, sizes):
    graphdef, params, batch_stats = split_model(networks.make("tutorial", 3, 1, width=2, depth=2, **options))
    step = make_probability_step(graphdef, image_size=16)
    random = np.random.default_rng(0)
    images, *others = (random.integers(0, 256, (2, *slab, *size, 3), np.uint8) for size in sizes)
    function = functools.partial(step, params, batch_stats)
    assert largest_difference(function, images, onnx_file.trace, others) <= 1e-5


@pytest.mark.parametrize("function", [jnp.sort, lambda x: jax.lax.pad(x, 0.0, [(0, 0, 1)] * 4), lambda x: x[:, [0, 2]]])
def test_what_is_not_known_is_said(function):
    with pytest.raises(InputError, match=r"cannot be translated to ONNX: export to \.zip"):
        onnx_file.trace_fixed(function, FLOATS)

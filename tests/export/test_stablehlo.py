import io
import json
import zipfile

import jax
import networks
import numpy as np
import pytest

from unet_jax.export import stablehlo
from unet_jax.inference.network import make_probability_step
from unet_jax.models.functional import split_model

VOLUMES = np.random.default_rng(0).random((2, 4, 20, 12, 1), np.float32)


def test_a_network_of_slabs_keeps_their_depth_and_leaves_the_rest_open():
    model = networks.make("tutorial", 1, 1, width=2, depth=2, rank=3, norm="instance")
    graphdef, params, batch_stats = split_model(model)
    step = make_probability_step(graphdef, image_size=16)
    program = stablehlo.trace(lambda image: step(params, batch_stats, image), VOLUMES)
    assert stablehlo.interface(VOLUMES)["input"] == {"shape": ["batch", 4, "height", "width", 1], "dtype": "float32"}
    for some in (VOLUMES, VOLUMES[:1, :, :9]):
        np.testing.assert_allclose(stablehlo.run(program, some), step(params, batch_stats, some), atol=1e-6)
    with pytest.raises(ValueError, match="shape"):
        stablehlo.run(program, VOLUMES[:, :3])


def test_each_platform_gets_its_own_branch():
    def function(image):
        return jax.lax.platform_dependent(image, cpu=lambda x: x[..., 0] * x.shape[0], default=lambda x: x[..., 0] - 1)

    program = stablehlo.trace(function, VOLUMES[:, 0])
    np.testing.assert_array_equal(stablehlo.run(program, VOLUMES[:, 0]), VOLUMES[:, 0, ..., 0] * 2)


def test_the_file_holds_both_and_is_the_same_every_time():
    file = stablehlo.pack(b"program", {"threshold": 0.5})
    assert stablehlo.pack(b"program", {"threshold": 0.5}) == file
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        assert archive.testzip() is None
        assert archive.read("network.stablehlo") == b"program"
        assert json.loads(archive.read("metadata.json")) == {"threshold": 0.5}

import io
import json
import zipfile

import jax
import networks
import numpy as np
import pytest

from unet_jax.errors import InputError
from unet_jax.export import stablehlo
from unet_jax.inference.network import make_probability_step
from unet_jax.models.functional import split_model

VOLUMES = np.random.default_rng(0).random((2, 4, 20, 12, 1), np.float32)


def test_a_network_of_slabs_keeps_their_depth_and_leaves_the_rest_open():
    model = networks.make("tutorial", 1, 1, width=2, depth=2, rank=3, norm="instance")
    graphdef, params, batch_stats = split_model(model)
    step = make_probability_step(graphdef, image_size=16)
    program = stablehlo.trace(lambda image: step(params, batch_stats, image), VOLUMES)
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


def test_a_file_is_loaded_with_its_facts_and_one_too_old_is_explained(tmp_path):
    path = tmp_path / "tumour.zip"
    facts = {"jax": "0.4.30", "channels": ["FLAIR"]}
    program = stablehlo.trace(lambda image: image[..., 0] * 2, VOLUMES[:, 0])
    path.write_bytes(stablehlo.pack(program, facts))
    function, found = stablehlo.load(path)
    assert found == facts
    np.testing.assert_array_equal(function(VOLUMES[:, 0]), VOLUMES[:, 0, ..., 0] * 2)
    path.write_bytes(stablehlo.pack(b"a form that jax no longer reads", facts))
    line = r"was exported by jax 0\.4\.30, and jax .* cannot read it .* six months .*: export again from the run"
    with pytest.raises(InputError, match=line):
        stablehlo.load(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is not an export"):
        stablehlo.load(path)

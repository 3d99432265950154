import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import make

from unet_jax.benchmark import flops
from unet_jax.inference import network
from unet_jax.models.fast.layouts import compiler_options
from unet_jax.models.functional import split_model

HARMLESS = {"xla_cpu_enable_fast_math": False}  # that a CPU's compiler takes


@pytest.mark.parametrize(
    ("rank", "backend", "wanted"),
    [
        (3, "gpu", {"xla_gpu_force_conv_nhwc": True}),
        (2, "gpu", None),
        (3, "cpu", None),
        (2, "cpu", None),
        (3, "tpu", None),
    ],
)
def test_options_are_for_volumes_on_a_gpu(rank, backend, wanted):
    assert compiler_options(rank, backend) == wanted


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="the backend at hand is a GPU")
def test_the_backend_at_hand_counts():
    assert compiler_options(3) is None


@pytest.fixture
def options_of_a_gpu(monkeypatch):
    """Options where a GPU has them, which the CPU of a test can take too."""
    monkeypatch.setattr(network, "compiler_options", lambda rank: HARMLESS if rank == 3 else None)


def volumes() -> tuple:
    graphdef, params, batch_stats = split_model(make("nnunet", 1, 1, features=(2, 2), rank=3))
    return graphdef, params, batch_stats, jnp.ones((1, 4, 4, 4, 1))


@pytest.mark.usefixtures("options_of_a_gpu")
def test_a_network_with_options_is_counted_and_can_be_part_of_another_program():
    graphdef, params, batch_stats, volume = volumes()
    step = network.make_probability_step(graphdef, image_size=4, rank=3)
    plain = network.make_probability_step(graphdef, image_size=4)
    arguments = params, batch_stats, volume
    assert flops.count(step, *arguments) == flops.count(plain, *arguments) > 0
    found = functools.partial(step, params, batch_stats)
    with pytest.raises(ValueError, match="top-level"):
        jax.jit(found)(volume)
    inner = jax.jit(network.within_a_program(found))(volume)
    np.testing.assert_allclose(inner, plain(*arguments), rtol=1e-5)

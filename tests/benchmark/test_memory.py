import resource

import jax
import jax.numpy as jnp
import pytest

from unet_jax.benchmark import memory


def _compiled(function, **options):
    return jax.jit(function, **options).lower(jax.ShapeDtypeStruct((250_000,), "float32")).compile()


def test_a_program_holds_its_arguments_and_its_results():
    """A vector of 1 MB in and one out; in place, it is the same one."""
    assert memory.planned(_compiled(jnp.sin)) == pytest.approx(0.002, rel=0.01)
    assert memory.planned(_compiled(jnp.sin, donate_argnums=0)) == pytest.approx(0.001, rel=0.01)


def test_the_hosts_peak_is_the_systems_count_and_a_cpu_has_none_of_its_own():
    found = memory.peaks(_compiled(jnp.sin))
    assert found["host_peak"] == pytest.approx(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, rel=0.01
    )
    assert found["step_by_xla"] == pytest.approx(0.002, rel=0.01)
    if jax.default_backend() == "cpu":
        assert found["device_peak"] is None

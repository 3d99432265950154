"""On several devices: each works on its own images, and the compilation cache finds what was compiled before."""

import json
import os
import subprocess
import sys

import pytest

from unet_jax.models.fast.native import calls

SCRIPT = """
import json, logging, sys
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from unet_jax.models.fast.convolution import convolve

hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
mesh = Mesh(np.array(jax.devices()), ("data",))
rng = np.random.default_rng(0)
x, kernel = (rng.standard_normal(shape).astype(np.float32) for shape in ((8, 9, 12, 16), (3, 3, 16, 24)))
x = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
kernel = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))

@jax.jit
def value_and_gradients(x, kernel):
    of = lambda x, kernel: convolve(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    value, pull = jax.vjp(of, x, kernel)
    return value, *pull(value)

compiled = value_and_gradients.lower(x, kernel).compile()
value, of_x, of_kernel = compiled(x, kernel)
text = compiled.as_text()
print(json.dumps({
    "sums": [float(np.abs(np.float64(one)).sum()) for one in (value, of_x, of_kernel)],
    "bits": [np.asarray(one).tobytes().hex()[:4000] for one in (value, of_x)],
    "calls": sum("custom-call(" in line and "unet_jax_" in line for line in text.splitlines()),
    "gathered": "all-gather" in text,
    "shards": len(value.addressable_shards),
    "was_cached": "/jax/compilation_cache/cache_hits" in hits,
}))
"""


def ran(devices: int, cache: object) -> dict:
    command = [sys.executable, "-c", SCRIPT, str(devices), str(cache)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_devices_share_a_batch_and_gather_nothing(tmp_path):
    alone, shared = ran(1, tmp_path), ran(4, tmp_path)
    assert (shared["shards"], shared["calls"], shared["gathered"]) == (4, 3, False)
    assert shared["bits"] == alone["bits"]
    assert shared["sums"] == pytest.approx(alone["sums"], rel=1e-6)


def test_what_was_compiled_is_found_again(tmp_path):
    first, again = ran(2, tmp_path), ran(2, tmp_path)
    assert (first["was_cached"], again["was_cached"]) == (False, True)
    assert first["bits"] == again["bits"]


LARGE = """
import jax, sys
import jax.numpy as jnp
import numpy as np
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from unet_jax.models.fast.convolution import convolve

mesh = Mesh(np.array(jax.devices()), ("data",))
pixels = jax.ShapeDtypeStruct((2, 2**17, 2**17, 2), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("data")))
kernel = jax.ShapeDtypeStruct((1, 1, 2, 3), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec()))

@jax.jit
def gradients(x, kernel, gradient):
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    return jax.vjp(lambda x, kernel: convolve(x, kernel, (1, 1), "SAME", **options), x, kernel)[1](gradient)

compiled = gradients.lower(pixels, kernel, jax.ShapeDtypeStruct((2, 2**17, 2**17, 3), jnp.float32)).compile()
print("all-gather" in compiled.as_text(), compiled.memory_analysis().temp_size_in_bytes)
"""


def test_images_of_any_size_are_shared_and_only_a_block_is_copied():
    """137 GB an image: XLA's partitioner counts to 2^31 along an axis, and a copy of all would be as large again."""
    command = [sys.executable, "-c", LARGE, "2"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    gathered, copied = done.stdout.split()[-2:]
    assert gathered == "False"
    assert int(copied) < 2**30


@pytest.mark.parametrize(
    ("groups", "cores", "processes", "expected"),
    [(1, 8, 1, 8), (4, 8, 1, 2), (3, 8, 1, 2), (16, 8, 1, 1), (4, 16, 4, 16), (32, 8, 4, 1)],
)
def test_every_core_of_every_process_has_a_part(groups, cores, processes, expected):
    assert calls.parts_of(groups, cores, processes) == expected

"""On several devices: each works on its own images, and the compilation cache finds what was compiled before."""

import json
import os
import subprocess
import sys

import pytest

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

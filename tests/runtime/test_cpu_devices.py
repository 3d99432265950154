import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unet_jax.runtime.cpu_devices import device_count

CHILD = """
import json
import sys
import jax
from unet_jax.runtime import cpu_devices
cpu_devices.cores = lambda: 3
cpu_devices.use_cores(12, json.loads(sys.argv[1]))
total = jax.jit(lambda x: x.sum())(jax.device_put(
    jax.numpy.arange(12.0), jax.sharding.NamedSharding(jax.make_mesh((jax.device_count(),), ("data",)),
    jax.sharding.PartitionSpec("data"))))
print(json.dumps([jax.device_count(), float(total)]))
"""


@pytest.mark.parametrize(
    ("batch_size", "cores", "expected"),
    [(8, 2, 2), (8, 3, 2), (9, 3, 3), (1, 16, 1), (7, 4, 1), (32, 16, 8), (32, 1, 1), (0, 2, 1)],
)
def test_devices_share_the_batch_evenly(batch_size, cores, expected):
    assert device_count(batch_size, cores) == expected


@pytest.mark.parametrize(
    ("named", "spatial", "expected"),
    [
        ({}, None, 3),
        ({"JAX_NUM_CPU_DEVICES": "1"}, None, 1),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, None, 2),
        ({}, [4], 4),
    ],
)
def test_a_process_gets_a_device_a_core_or_a_slab_unless_told_otherwise(named, spatial, expected):
    kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(spatial)],
        env=kept | named | {"JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout) == [expected, 66.0]

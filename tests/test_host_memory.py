import json
import os
import platform
import resource
import subprocess
import sys

import pytest

from unet_jax import host_memory

# In the main thread and in another, as XLA's are: 256 MB, then as much again, twice.
CHILD = """
import json, resource, sys, threading
import numpy as np
from unet_jax import host_memory
if sys.argv[1] == "kept":
    assert host_memory.keep()
faults = []

def use():
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(2**28, np.uint8)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

use()
thread = threading.Thread(target=use)
thread.start()
thread.join()
print(json.dumps(faults))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc that is told")
def test_memory_that_was_freed_is_not_faulted_in_again():
    faults, environment = {}, os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}
    for how in ("kept", "given back"):
        child = subprocess.run(
            [sys.executable, "-c", CHILD, how], env=environment, capture_output=True, text=True, check=True
        )
        faults[how] = json.loads(child.stdout)
    pages = 2**28 // resource.getpagesize()
    assert faults["kept"][0] > 0.9 * pages
    assert max(faults["kept"][1:]) < 0.01 * pages
    assert min(faults["given back"]) > 0.9 * pages


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2.5"))
    monkeypatch.setattr(host_memory.ctypes, "CDLL", None)
    assert not host_memory.keep()

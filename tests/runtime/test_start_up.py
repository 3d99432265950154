import gc
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from unet_jax.runtime import start_up

PROJECT = Path(__file__).parents[2]
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# Twice 256 MB, without numpy's own request for huge pages.
CHILD = """
import json, os, resource, sys
from unet_jax.runtime import start_up
start_up.re_execute()
os.environ["NUMPY_MADVISE_HUGEPAGE"] = "0"
import numpy as np
faults = []
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**28, np.uint8)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(json.dumps([faults, os.getpid(), sys.argv, os.environ.get("GLIBC_TUNABLES")]))
"""
# What the interpreter has made of the locale by the time that the program does its work.
LOCALE = """
import json, os, sys
from unet_jax.runtime import start_up
start_up.re_execute()
print(json.dumps([sys.getfilesystemencoding(), sys.argv[1], os.environ.get("PYTHONUTF8")]))
"""
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SET_HERE = (start_up.TUNABLES, start_up.PLAIN)
of_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc that is set")


def _start(code, environment, *arguments, options=()):
    kept = {key: value for key, value in os.environ.items() if key not in SET_HERE}
    child = subprocess.Popen(
        [sys.executable, *options, "-c", code, *arguments],
        env=kept | environment,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
    )
    found = json.loads(child.communicate(timeout=60)[0])
    assert child.returncode == 0
    return child.pid, found


def _run(environment):
    started, (faults, process, arguments, said) = _start(CHILD, environment, "--flag", "a b")
    assert (process, arguments) == (started, ["-c", "--flag", "a b"])
    return faults, said


@of_glibc
@pytest.mark.skipif(not OFFERED.exists() or "[never]" in OFFERED.read_text(), reason="the system has no huge pages")
def test_buffers_are_allocated_in_huge_pages():
    small = 2**28 // resource.getpagesize()
    faults, said = _run({})
    assert said == "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2"
    assert max(faults) < 0.05 * small
    if "[always]" not in OFFERED.read_text():
        faults, said = _run({start_up.TUNABLES: "glibc.malloc.hugetlb=0"})
        assert said == "glibc.malloc.hugetlb=0:glibc.malloc.arena_max=2"
        assert min(faults) > 0.9 * small


@of_glibc
def test_what_else_the_environment_says_stands():
    _, said = _run({start_up.TUNABLES: "glibc.malloc.tcache_count=7"})
    assert said == "glibc.malloc.tcache_count=7:glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2"


def test_a_plain_start_changes_nothing(monkeypatch):
    _, said = _run({start_up.PLAIN: "1"})
    assert said is None
    monkeypatch.setenv(start_up.PLAIN, "1")
    before = gc.get_threshold()
    start_up.collect_rarely()
    assert gc.get_threshold() == before


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.delenv(start_up.TUNABLES, raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2.5"))
    monkeypatch.setattr(os, "execv", None)
    start_up.re_execute()
    assert start_up.TUNABLES not in os.environ


@pytest.mark.parametrize("plain", [{}, {start_up.PLAIN: "1"}])
def test_paths_are_utf8_whatever_the_locale(plain):
    _, found = _start(LOCALE, NO_UTF8 | plain, "läufe")
    assert found == ["utf-8", "läufe", "1"]


def test_an_interpreter_that_insists_on_another_encoding_starts_all_the_same():
    _, (encoding, *_) = _start(LOCALE, NO_UTF8, "a", options=["-X", "utf8=0"])
    assert encoding == "ascii"


def test_garbage_is_collected_rarely(monkeypatch):
    monkeypatch.delenv(start_up.PLAIN, raising=False)
    before = gc.get_threshold()
    try:
        start_up.collect_rarely()
        assert gc.get_threshold()[0] == 100_000
    finally:
        gc.set_threshold(*before)


def test_a_command_writes_and_reads_below_an_umlaut_under_an_ascii_locale(tmp_path):
    """OpenCV crashed there, and printing ended in a traceback. Two patients are too few: that ends the command soon."""
    folder = tmp_path / "läufe"
    folder.mkdir()
    settings = {
        "data.source": "phantom",
        "data.cache": folder / "cäche",
        "phantom.root": folder / "phäntom",
        "phantom.patients": 2,
        "phantom.size": 32,
        "phantom.slices": "(4,6)",
    }
    done = subprocess.run(
        [
            *(sys.executable, "main.py", "--config=configs/default.py", f"--workdir={folder / 'rün'}"),
            *(f"--config.{key}={value}" for key, value in settings.items()),
        ],
        env=os.environ | NO_UTF8 | {"PYTHONIOENCODING": "ascii", "JAX_PLATFORMS": "cpu"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: config.data.val_fraction=0.1 and test_fraction=0.15 need at least 3 patients")
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["cäche", "phäntom"]

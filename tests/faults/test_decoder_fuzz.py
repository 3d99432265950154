"""A short run of faults/fuzz_decoder.py, and a check that it would notice what it looks for."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from faults import fuzz_decoder

SCRIPT = Path(fuzz_decoder.__file__)


def test_damaged_pictures_harm_neither_the_child_nor_the_parent():
    done = subprocess.run([sys.executable, SCRIPT, "--mutations=12000", "--seed=5"], capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert report["counts"].keys() == {"decoded", "refused"}
    assert sum(report["counts"].values()) == 12000
    assert min(report["counts"].values()) > 500
    assert report["slowest_seconds"] < 2
    assert report["peak_bytes"] < 2**28


def test_whole_pictures_are_decoded_and_mutations_repeat():
    for name, data in fuzz_decoder.seeds():
        assert fuzz_decoder.decode_image(data, name).shape[:2] == (16, 16)
    made = [fuzz_decoder.mutate(1, number) for number in range(200)]
    assert made == [fuzz_decoder.mutate(1, number) for number in range(200)]
    assert len(set(made)) > 190


@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        ("pass", "done"),
        ("import os; os.abort()", "died with code -6"),
        ("raise SystemExit(3)", "died with code 3"),
        ("import time; time.sleep(60)", "hung"),
    ],
)
def test_the_watchdog_sees_death_and_standstill(program, verdict, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz_decoder, "HANG_SECONDS", 1)
    (tmp_path / "at").write_bytes(struct.pack("q", 7))
    with subprocess.Popen([sys.executable, "-c", program]) as child:
        assert fuzz_decoder.watch(child, tmp_path / "at") == verdict


def test_errors_and_exhausted_memory_are_counted(tmp_path, monkeypatch):
    def decode(data, name):
        raise MemoryError if len(data) % 2 else ValueError(name)

    monkeypatch.setattr(fuzz_decoder, "decode_image", decode)
    monkeypatch.setattr(fuzz_decoder.resource, "setrlimit", lambda *limits: None)
    (tmp_path / "at").write_bytes(struct.pack("q", 0))
    fuzz_decoder.run_child(tmp_path, seed=0, first=0, last=50, guarded=True)
    counts = json.loads((tmp_path / "counts").read_text())["counts"]
    assert counts.keys() == {"raised MemoryError", "raised ValueError"}
    assert len(list(tmp_path.glob("*-*"))) == 50

import sys

import pytest

from benchmarks import memory

# Stands for training: 100 MB more from the second epoch on, and three lines of history.
TRAINING = """
import json, pathlib, sys, time
workdir = pathlib.Path(sys.argv[-1].split("=", 1)[1])
workdir.mkdir()
held = []
for epoch in (1, 2, 3):
    if epoch == 2:
        held.append(b"x" * 100_000_000)
    time.sleep(0.3)
    with open(workdir / "history.jsonl", "a") as file:
        file.write(json.dumps({"step": epoch, "epoch": epoch}) + chr(10))
time.sleep(0.2)
"""


def test_memory_is_told_by_epoch(tmp_path):
    megabytes = memory.watch([sys.executable, "-c", TRAINING], tmp_path / "run")
    for values in megabytes.values():
        assert len(values) == 4
        assert values[1] - values[0] == pytest.approx(100, abs=10)
        assert values[2] - values[1] == pytest.approx(0, abs=5)


def test_growth_is_that_from_the_third_epoch_on():
    assert memory.growth([0, 50, 102, 104, 106]) == pytest.approx({"slope": 2, "standard_error": 0}, abs=1e-9)
    # 0, 1, 0 lie 1/3, 2/3 and 1/3 off their mean: √(6/9 / (3 - 2) / 2).
    assert memory.growth([9, 9, 0, 1, 0]) == pytest.approx({"slope": 0, "standard_error": 3**-0.5})
    assert memory.growth([7]) == {"slope": 0, "standard_error": 0}


def test_a_run_that_fails_is_told(tmp_path):
    with pytest.raises(SystemExit, match="code 3"):
        memory.watch([sys.executable, "-c", "import sys; sys.exit(3)"], tmp_path / "run")

import sys

import pytest

from unet_jax.benchmark import first_step
from unet_jax.errors import InputError

# Stands for training: a first start compiles for a while and leaves the program, a second one finds it.
TRAINING = """
import pathlib, sys, time
given = dict(argument.lstrip("-").split("=", 1) for argument in sys.argv[1:])
compiled = pathlib.Path(given["config.train.compilation_cache"])
assert given["mode"] == "train" and given["config.train.log_every_steps"] == "1"
if not compiled.exists():
    end = time.process_time() + 0.4
    while time.process_time() < end: pass
    compiled.mkdir()
workdir = pathlib.Path(given["workdir"])
workdir.mkdir()
(workdir / "history.jsonl").write_text("{}")
time.sleep(60)
"""


def test_a_start_ends_with_the_first_step_and_the_second_finds_what_was_compiled():
    cold, warm = first_step.cold_and_warm([sys.executable, "-c", TRAINING, "--mode=benchmark"])
    assert cold["cpu_seconds"] >= 0.4
    assert warm["cpu_seconds"] < cold["cpu_seconds"] - 0.2
    assert warm["seconds"] < 30


def test_training_that_ends_early_is_told_by_its_last_line():
    with pytest.raises(InputError, match=r"ended with code 2 before its first step: error: config\.x is not a key"):
        first_step.cold_and_warm(
            [sys.executable, "-c", "import sys; print('error: config.x is not a key', file=sys.stderr); sys.exit(2)"]
        )

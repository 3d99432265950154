import subprocess
import sys
import time
from pathlib import Path

from unet_jax.runtime.watchdog import Watchdog

PROJECT = Path(__file__).parents[2]

# The main thread hangs in C, with a worker process at its side.
HANGING = """
import multiprocessing, pathlib, signal, sys, time
from unet_jax.runtime.watchdog import Watchdog

def hang_in_c():
    time.sleep(1000)

if __name__ == "__main__":
    worker = multiprocessing.get_context("fork").Process(target=hang_in_c)
    worker.start()
    print(worker.pid, flush=True)
    with Watchdog(pathlib.Path(sys.argv[1])) as watchdog:
        watchdog.expect("the end of step 7", 0.3)
        hang_in_c()
"""


def test_a_hanging_process_says_where_and_ends_with_its_workers(tmp_path):
    script, stacks = tmp_path / "hanging.py", tmp_path / "run" / "stacks.txt"
    script.write_text(HANGING)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script), str(stacks)], cwd=PROJECT, env={"PYTHONPATH": "."}, capture_output=True, text=True
    )
    assert time.monotonic() - began < 20
    assert done.returncode == 7
    worker = int(done.stdout)
    assert not Path(f"/proc/{worker}").exists()
    assert f"error: no sign of the end of step 7 for 0.3 s (worker process {worker} is sleeping)" in done.stderr
    assert "hang_in_c" in done.stderr
    assert "hang_in_c" in stacks.read_text()


def test_what_comes_in_time_ends_nothing(tmp_path):
    with Watchdog(tmp_path / "stacks.txt") as watchdog:
        for _ in range(4):
            watchdog.expect("the end of a step", 0.7)
            time.sleep(0.3)
        watchdog.rest()
        time.sleep(1)
    assert list(tmp_path.iterdir()) == []

import os
import signal
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


# Takes steps of 0.1 s that are expected within 1.5 s, until it is told to hang.
STEPPING = """
import pathlib, sys, threading, time
from unet_jax.runtime.watchdog import Watchdog

hang = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), hang.set()), daemon=True).start()
with Watchdog(pathlib.Path(sys.argv[1])) as watchdog:
    while True:
        watchdog.expect("the end of a step", 1.5)
        time.sleep(0.1)
        print("step", flush=True)
        if hang.is_set():
            time.sleep(1000)
"""


def test_a_suspended_process_resumes_and_one_that_hangs_then_is_ended(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", STEPPING, str(tmp_path / "stacks.txt")],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": "."},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "step\n"
        for _ in range(2):
            process.send_signal(signal.SIGSTOP)
            time.sleep(4)
            process.send_signal(signal.SIGCONT)
            end = time.monotonic() + 2  # time enough to be called hung
            while time.monotonic() < end:
                assert process.stdout.readline() == "step\n"
            assert process.poll() is None
        began = time.monotonic()
        process.stdin.write("hang\n")
        _, complaint = process.communicate(timeout=60)
        assert 1 < time.monotonic() - began < 20
        assert process.returncode == 7
        assert "error: no sign of the end of a step for 1.5 s; all stacks are in " in complaint
    finally:
        process.kill()

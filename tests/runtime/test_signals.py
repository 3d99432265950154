import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from unet_jax.errors import StopRequestedError
from unet_jax.runtime import signals
from unet_jax.runtime.signals import StopRequest

PROJECT = Path(__file__).parents[2]

# A signal comes while the main thread is in C and Python cannot react; then a second one, into the last words.
BUSY_IN_C = """
import ctypes, os, signal, sys, threading, time
from unet_jax.runtime import signals

signals.GRACE = 0.2
def save():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.3)
    return "saved step 5; run the same command to resume."

with signals.StopRequest() as stop:
    stop.anywhere(save)
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM]).start()
    # As a compiler does, this goes on whatever the signals.
    end = time.time() + 30
    while (left := end - time.time()) > 0:
        ctypes.CDLL(None).poll(None, 0, int(1000 * left))
"""


def test_a_signal_between_steps_is_only_noted():
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    with StopRequest() as stop:
        assert not stop.asked
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
            assert stop.asked
    assert {number: signal.getsignal(number) for number in signals.SIGNALS} == before


def test_where_the_run_may_end_its_last_words_are_said_once():
    said = []
    with StopRequest() as stop:
        stop.anywhere(lambda: said.append("saved") or "saved step 3")
        stop.check()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopRequestedError, match="saved step 3"):
            stop.check()
    assert said == ["saved"]


def test_a_signal_from_before_counts_where_the_run_may_end():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(StopRequestedError, match="nothing was trained"):
            stop.anywhere(lambda: "nothing was trained")


def test_a_process_that_is_busy_outside_of_python_ends_all_the_same():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", BUSY_IN_C], cwd=PROJECT, env={"PYTHONPATH": "."}, capture_output=True, text=True
    )
    assert time.monotonic() - began < 15
    assert (done.returncode, done.stderr) == (3, "error: saved step 5; run the same command to resume.\n")


def test_other_threads_get_no_signals():
    def listen():
        with StopRequest() as stop:
            found.append(stop.asked)

    found = []
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [False]
